// Entry of the engine process. The heart beats before anything else is loaded: from then on silence
// means that the process stands still.

import { startHeart } from '../heart/heart.ts'

const heart = startHeart()
const { serveFront } = await import('./serve-front.ts')
serveFront(heart)
