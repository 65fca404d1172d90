// What the fuzzer is pointed at. A target says what its inputs are and what must hold of each.

import type * as fc from 'fast-check'

/** One thing opened to be given inputs. */
interface OpenTarget<Input> {
  /** Throws where a claim is broken. */
  check(input: Input): void | Promise<void>
  close(): void | Promise<void>
}

export interface Target<Input> {
  readonly name: string
  readonly inputs: fc.Arbitrary<Input>
  /** Opened anew for each batch. */
  open(): OpenTarget<Input> | Promise<OpenTarget<Input>>
}
