// One flag as a zod schema: how its text becomes a value, and what --help and docs/FLAGS.md say of it.

import { z } from 'zod'

export interface FlagText {
  /** What --help and docs/FLAGS.md show between the flag and its meaning. */
  readonly value: string
  /** Text parsed when neither flag nor variable is given; null: absent. */
  readonly default: string | null
  /** How the default reads where its text would mislead (a path of this machine, "none"). */
  readonly shownDefault?: string
  readonly description: string
}

export const flagTexts = z.registry<FlagText>()

/** A flag that may be absent. A message of `parse` is the issue’s. */
export function flag<T>(parse: (text: string) => T, text: FlagText) {
  return z
    .string()
    .optional()
    .transform((given, context): T | null => {
      const value = given ?? text.default
      if (value === null) return null
      try {
        return parse(value)
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message })
        return z.NEVER
      }
    })
    .register(flagTexts, text)
}

/** A flag that always has a value, because it has a default. */
export function setting<T>(
  parse: (text: string) => T,
  text: FlagText & { readonly default: string },
) {
  return flag(parse, text)
    .transform((value) => value as T)
    .register(flagTexts, text)
}
