// JSON that is text already. What a large answer keeps of its tokens is text: a million small objects
// would cost more to keep than to write.

export class RawJson {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

export function toRaw(text: string): RawJson {
  return new RawJson(text)
}
