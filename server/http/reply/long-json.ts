// A stream chunk that may be long: its lists are made while it is written, in pieces. It can be
// written once.

export class LongJson {
  readonly value: object

  constructor(value: object) {
    this.value = value
  }

  /** The same with more fields at its end. */
  with(fields: object): LongJson {
    return new LongJson({ ...this.value, ...fields })
  }
}
