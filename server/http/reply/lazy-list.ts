// A list of a whole answer that is made while it is written: a large answer is never one piece of
// work. It can be walked once.

export function* each<T, U>(
  items: Iterable<T>,
  map: (item: T, index: number) => U,
): Generator<U, void, undefined> {
  let index = 0
  for (const item of items) yield map(item, index++)
}
