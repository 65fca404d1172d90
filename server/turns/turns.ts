// Whose turn it is among clients and their requests, counted in work that was done for them. Pure: no
// clock, no I/O, the same calls give the same order.
//
// 1. Between clients: who was served least comes first. A client that comes anew begins where the
//    least served one stands, so that it neither waits for the past of others nor brings credit.
// 2. Within a client: whose due mark is least comes first. A due mark is what the client had been
//    served when the item came, plus `stretch` times its cost and the cost of the items of the same
//    request before it. Equal requests so come in their order, the many items of one request alternate
//    with those of others, and small work overtakes large work, but not for ever: marks of later
//    comers grow with every unit that is served.

import type { Turn } from '../contracts/generation.ts'

interface Client {
  served: number
  /** Ordered by due mark, then by place. */
  readonly waiting: Entry<unknown>[]
  /** Of each request with items here: the last due mark it was given, and how many there are. */
  readonly requests: Map<string, { due: number; numItems: number }>
}

interface Entry<Item> {
  readonly item: Item
  readonly turn: Turn
  readonly arrival: number
  due: number
  /** Among equal due marks: its arrival, or that of whom it stands behind. */
  place: number
  isWaiting: boolean
}

export interface TurnsOptions {
  /** How many times its own cost an item may be overtaken by. */
  readonly stretch: number
}

export type Turns<Item extends object> = ReturnType<typeof createTurns<Item>>

export function createTurns<Item extends object>({ stretch }: TurnsOptions) {
  const clients = new Map<string, Client>()
  const entries = new Map<Item, Entry<Item>>()
  let numArrived = 0
  let numWaiting = 0
  let version = 0

  function clientOf(name: string): Client {
    const known = clients.get(name)
    if (known !== undefined) return known
    const others = [...clients.values()].map(({ served }) => served)
    const served = others.length === 0 ? 0 : Math.min(...others)
    const client: Client = { served, waiting: [], requests: new Map() }
    clients.set(name, client)
    return client
  }

  function requireEntry(item: Item): Entry<Item> {
    const entry = entries.get(item)
    if (entry === undefined) throw new Error('the item is not here')
    return entry
  }

  function markDue(client: Client, turn: Turn, cost: number): number {
    const request = client.requests.get(turn.request)!
    request.due = Math.max(client.served, request.due) + stretch * cost
    return request.due
  }

  function enqueue(client: Client, entry: Entry<Item>): void {
    const { waiting } = client
    let at = waiting.length
    while (at > 0 && isBefore(entry, waiting[at - 1]!)) at--
    waiting.splice(at, 0, entry)
    entry.isWaiting = true
    numWaiting++
    version++
  }

  function dequeue(client: Client, entry: Entry<Item>): void {
    client.waiting.splice(client.waiting.indexOf(entry), 1)
    entry.isWaiting = false
    numWaiting--
    version++
  }

  return {
    get numWaiting() {
      return numWaiting
    },
    /** Changes when anything begins or ends to wait. */
    get version() {
      return version
    },
    /** All that wait, each client's in its order. */
    waiting(): Item[] {
      const lists = [...clients.values()].map((client) => client.waiting as Entry<Item>[])
      return lists.flatMap((list) => list.map(({ item }) => item))
    },

    add(item: Item, turn: Turn, cost: number): void {
      const client = clientOf(turn.client)
      const request = client.requests.get(turn.request) ?? { due: 0, numItems: 0 }
      client.requests.set(turn.request, request)
      request.numItems++
      const due = markDue(client, turn, cost)
      const arrival = numArrived++
      const entry = { item, turn, arrival, due, place: arrival, isWaiting: true }
      entries.set(item, entry)
      enqueue(client, entry)
    },

    /** Whose turn it is; undefined where nobody waits. `mayCome` leaves clients out. */
    first(mayCome: (client: string) => boolean = () => true): Item | undefined {
      let best: Entry<Item> | undefined
      let bestServed = Number.POSITIVE_INFINITY
      for (const [name, { served, waiting }] of clients) {
        const entry = waiting[0] as Entry<Item> | undefined
        if (entry === undefined || served > bestServed || !mayCome(name)) continue
        if (served === bestServed && best !== undefined && isBefore(best, entry)) continue
        best = entry
        bestServed = served
      }
      return best?.item
    },

    /** It waits no longer, and is still here until `remove`. */
    take(item: Item): void {
      const entry = requireEntry(item)
      dequeue(clients.get(entry.turn.client)!, entry)
    },

    /** It waits again, in the place that it had. */
    putBack(item: Item): void {
      const entry = requireEntry(item)
      enqueue(clients.get(entry.turn.client)!, entry)
    },

    /** It waits again as if it came now, with that much left to do. */
    putLast(item: Item, cost: number): void {
      const entry = requireEntry(item)
      const client = clients.get(entry.turn.client)!
      entry.due = markDue(client, entry.turn, cost)
      entry.place = entry.arrival
      enqueue(client, entry)
    },

    /** It waits again, right behind another of its client. */
    putBehind(item: Item, other: Item): void {
      const entry = requireEntry(item)
      const { due, place } = requireEntry(other)
      Object.assign(entry, { due, place })
      enqueue(clients.get(entry.turn.client)!, entry)
    },

    /** Work was done for it. */
    charge(item: Item, amount: number): void {
      clients.get(requireEntry(item).turn.client)!.served += amount
    },

    /** How much more the client of `item` was served than that of `other`; null for the same client. */
    lead(item: Item, other: Item): number | null {
      const [{ turn: mine }, { turn: its }] = [requireEntry(item), requireEntry(other)]
      if (mine.client === its.client) return null
      return clients.get(mine.client)!.served - clients.get(its.client)!.served
    },

    isWaiting(item: Item): boolean {
      return entries.get(item)?.isWaiting ?? false
    },

    arrivalOf(item: Item): number {
      return requireEntry(item).arrival
    },

    /** Forgets it, wherever it is; true where it waited. Ignores what is not here. */
    remove(item: Item): boolean {
      const entry = entries.get(item)
      if (entry === undefined) return false
      const { isWaiting, turn } = entry
      const client = clients.get(turn.client)!
      if (isWaiting) dequeue(client, entry)
      entries.delete(item)
      const request = client.requests.get(turn.request)!
      if (--request.numItems === 0) client.requests.delete(turn.request)
      if (client.requests.size === 0) clients.delete(turn.client)
      return isWaiting
    },
  }
}

function isBefore(x: Entry<unknown>, y: Entry<unknown>): boolean {
  return x.due < y.due || (x.due === y.due && x.place < y.place)
}
