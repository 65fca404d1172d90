// A JSON object before anything is known of its fields.

export type JsonObject = Readonly<Record<string, unknown>>

/** Neither null nor a list. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
