// Who may use an upstream's adapter slots: names are held while requests run with them, and the least
// recently used one that nobody holds gives its place up. Who finds none waits, first come first served.
// Pure but for the promises.

interface Hold {
  /** Idempotent. */
  release(): void
}

export interface Slots {
  /** Resolves with a hold on the name, and the names that must leave before it comes. */
  hold(name: string, signal: AbortSignal): Promise<Hold & { readonly evicted: readonly string[] }>
  /** It has no slot any more. */
  forget(name: string): void
  names(): readonly string[]
  readonly numWaiting: number
}

interface Waiting {
  readonly name: string
  readonly resolve: (held: Hold & { readonly evicted: readonly string[] }) => void
}

/** `count`: a number that may come to be known later. */
export function createSlots(count: () => number): Slots {
  /** Name → how many hold it; least recently used first. */
  const users = new Map<string, number>()
  const queue: Waiting[] = []

  function touch(name: string, numUsers: number): void {
    users.delete(name)
    users.set(name, numUsers)
  }

  function tryHold(name: string): (Hold & { readonly evicted: readonly string[] }) | null {
    const evicted: string[] = []
    if (!users.has(name)) {
      for (const [other, numUsers] of users) {
        if (users.size - evicted.length < count()) break
        if (numUsers === 0) evicted.push(other)
      }
      if (users.size - evicted.length >= count()) return null
      for (const other of evicted) users.delete(other)
    }
    touch(name, (users.get(name) ?? 0) + 1)
    let isReleased = false
    return {
      evicted,
      release() {
        if (isReleased) return
        isReleased = true
        const numUsers = users.get(name)
        if (numUsers !== undefined) touch(name, Math.max(0, numUsers - 1))
        serve()
      },
    }
  }

  function serve(): void {
    while (queue.length > 0) {
      const first = queue[0]!
      const held = tryHold(first.name)
      if (held === null) return
      queue.shift()
      first.resolve(held)
    }
  }

  return {
    hold(name, signal) {
      signal.throwIfAborted()
      // Nobody overtakes: a name that has its slot would otherwise keep those who wait out for ever.
      const atOnce = queue.length === 0 ? tryHold(name) : null
      if (atOnce !== null) return Promise.resolve(atOnce)
      return new Promise((resolve, reject) => {
        const waiting: Waiting = {
          name,
          resolve(held) {
            signal.removeEventListener('abort', give)
            resolve(held)
          },
        }
        function give(): void {
          queue.splice(queue.indexOf(waiting), 1)
          reject(signal.reason)
          serve()
        }
        signal.addEventListener('abort', give, { once: true })
        queue.push(waiting)
      })
    },
    forget(name) {
      // Those who hold it registered it, or find out that it is gone.
      if (users.get(name) === 0) users.delete(name)
      serve()
    },
    names: () => [...users.keys()],
    get numWaiting() {
      return queue.length
    },
  }
}
