// What a reply says: its tokens' text in two sections, the thought and the answer ("content"), and the
// stop string that ends it. The outcome depends on the reply alone, not on how it came in pieces.
//
// The marks <think> and </think> are tokens where the tokenizer has them as added tokens: the same
// characters spelled by other tokens are text. A tokenizer without them has the marks as text.
//
// A thought is open where the prompt left one open, or where the reply opens one before it says
// anything else. The first </think> closes it, for good: all that follows is answer, marks too.
//   <think> in an open thought: nothing at its beginning (the prompt has opened it), later text of it.
//   a second </think>, a second <think>…</think>: text of the answer.
//   a thought that is never closed: all is thought, the answer is empty.
//   <think> after other text: text of the answer.
//   </think> where nothing was opened: all before it was thought. As this is known only then, a reply
//     that opens nothing is held back until </think> comes, if the marks are tokens; at its end, cut
//     or not, it is an answer. If the marks are text, it is an answer at once.
//   a prompt that ends with a closed thought: the reply is the answer, unless it opens one at once.
// Newlines next to a mark belong to neither side; before an opening mark any white space.
//
// Stop strings act on the answer as it is shown: not within the thought, not on newlines at its mark.
// Two exceptions, for what is not shown: a mark as a stop string ends the reply at that mark, and a
// special token's text ends the answer at that token. Where nothing is split, all text is the answer.

import { type ReplyPhase, thoughtEnd, thoughtStart } from '../contracts/thought.ts'
import { createDetokenizer, type TokenBytes } from './detokenizer.ts'
import { createMarkReader } from './mark-reader.ts'
import { createStopMatcher, withoutSigns } from './stop-matcher.ts'
import { createThoughtSplitter, type Mark } from './thought-splitter.ts'

export interface ReplyTokens extends TokenBytes {
  /** Texts of the added tokens. */
  readonly specialTexts: readonly string[]
  idOf(text: string): number | undefined
}

export interface ReplyParserOptions {
  readonly tokenizer: ReplyTokens
  /** Where the prompt leaves the reply. */
  readonly phase: ReplyPhase
  /** False: all is the answer. */
  readonly splits: boolean
  readonly stops: readonly string[]
  readonly includeStop: boolean
  /** Special tokens are text, too. */
  readonly showsSpecials?: boolean
  /** A grammar acts on the answer: what opens no thought at once is answer. */
  readonly isConstrained?: boolean
}

export interface ReplyPart {
  reasoning: string
  content: string
  /** The stop string that was found. Nothing comes after it. */
  stop: string | null
}

type Section = 'undecided' | 'reasoning' | 'content'

const sections: Readonly<Record<ReplyPhase, Section>> = {
  beginning: 'undecided',
  opened: 'reasoning',
  thinking: 'reasoning',
  closed: 'content',
  answering: 'content',
}

export function createReplyParser({ tokenizer, splits, stops, ...options }: ReplyParserOptions) {
  const detokenizer = createDetokenizer(tokenizer, options.showsSpecials)
  const named = tokenizer.specialTexts.filter((text) => stops.some((stop) => stop.includes(text)))
  const hiddenTexts = named.filter(isHiddenText)
  const matcher = createStopMatcher({ stops, includeStop: options.includeStop, hiddenTexts })
  const signs = new Map(hiddenTexts.map((text) => [tokenizer.idOf(text), matcher.signOf(text)]))
  const markTokens = new Map<number | undefined, Mark>()
  const textMarks: Mark[] = []
  for (const mark of splits ? ([thoughtStart, thoughtEnd] as const) : []) {
    if (tokenizer.specialTexts.includes(mark)) markTokens.set(tokenizer.idOf(mark), mark)
    else textMarks.push(mark)
  }
  const withoutStart = textMarks.filter((mark) => mark === thoughtEnd)
  const withoutEnd = textMarks.filter((mark) => mark === thoughtStart)

  let mayStop = true
  let part: ReplyPart = { reasoning: '', content: '', stop: null }

  const splitter = createThoughtSplitter({
    phase: splits ? options.phase : 'answering',
    waitsForEnd: splits && !textMarks.includes(thoughtEnd) && options.isConstrained !== true,
    think(text) {
      if (part.stop === null) part.reasoning += withoutSigns(text)
    },
    answer(text) {
      if (part.stop !== null) return
      const { text: shown, stop } = matcher.push(text, mayStop)
      part.content += shown
      part.stop = stop
    },
  })
  const reader = createMarkReader({ expected, takeText: splitter.takeText, takeMark })

  function isHiddenText(text: string): boolean {
    const id = tokenizer.idOf(text)
    return id !== undefined && detokenizer.isHidden(id)
  }

  /** Marks that are text and would be read as marks here. */
  function expected(): readonly Mark[] {
    if (textMarks.length === 0 || splitter.phase === 'answering') return noMarks
    if (splitter.phase === 'thinking') return withoutStart
    if (splitter.phase === 'closed') return splitter.mayOpen ? withoutEnd : noMarks
    return textMarks
  }

  function takeMark(mark: Mark): void {
    if (part.stop !== null || !splitter.takeMark(mark)) return
    if (!mayStop || !stops.includes(mark)) return
    part.stop = mark
    if (options.includeStop) part.content += mark
  }

  function take(): ReplyPart {
    const taken = part
    part = { reasoning: '', content: '', stop: null }
    return taken
  }

  return {
    get section(): Section {
      return sections[splitter.phase]
    },
    /** The reply itself opened or closed a thought. */
    get hasThought() {
      return splitter.hasThought
    },
    /** The token has no text of its own. */
    isHidden: (token: number): boolean => detokenizer.isHidden(token),
    /** The token would close the thought here. */
    isClosing: (token: number): boolean =>
      sections[splitter.phase] !== 'content' && markTokens.get(token) === thoughtEnd,

    /** The token that opens a thought here, before anything is said; undefined: none does. */
    get opening(): number | undefined {
      if (splitter.phase !== 'beginning' || !splitter.mayOpen) return undefined
      return [...markTokens].find(([, mark]) => mark === thoughtStart)?.[0]
    },
    /** The token would close the thought with text, and say some of the answer with it. */
    isClosingEarly(token: number): boolean {
      if (textMarks.length === 0 || sections[splitter.phase] !== 'reasoning') return false
      const said = reader.unread + Buffer.from(tokenizer.tokenBytes(token)).toString()
      const at = said.indexOf(thoughtEnd)
      return at >= 0 && !/^[\r\n]*$/.test(said.slice(at + thoughtEnd.length))
    },

    /** What a token lets go. `stopsNow`: whether a stop string that is found with it counts. */
    push(token: number, stopsNow = true): ReplyPart {
      mayStop = stopsNow
      const mark = markTokens.get(token)
      const sign = signs.get(token)
      if (mark === undefined && !sign) {
        reader.push(detokenizer.push(token))
        return take()
      }
      reader.push(detokenizer.flush())
      reader.flush()
      if (mark !== undefined) takeMark(mark)
      else if (sections[splitter.phase] !== 'reasoning') splitter.takeText(sign!)
      return take()
    },

    /** Everything still held back, at the reply's end. */
    finish(stopsNow = true): ReplyPart {
      mayStop = stopsNow
      reader.push(detokenizer.flush())
      reader.flush()
      splitter.finish()
      if (part.stop === null) part.content += matcher.flush()
      return take()
    },
  }
}

const noMarks: readonly Mark[] = []
