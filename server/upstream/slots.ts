// Who may use an upstream's adapter slots: names are held while requests run with them, and the least
// recently used one that nobody holds gives its place up. Who finds none waits, first come first served.
// Pure but for the promises.

interface Hold {
  /** Idempotent. */
  release(): void
}

export interface Slots {
  /** Resolves with a hold on the name; those that must leave before it comes have left. */
  hold(name: string, signal: AbortSignal): Promise<Hold>
  /** It has no slot any more. */
  forget(name: string): void
  /** Those names leave as soon as nobody holds them, unless they are held anew. */
  retire(isRetired: (name: string) => boolean): void
  names(): readonly string[]
  readonly numWaiting: number
}

interface Waiting {
  readonly name: string
  readonly resolve: (held: Hold) => void
}

/** `count`: a number that may come to be known later. `onLeave`: told of each name that gives its place up. */
export function createSlots(count: () => number, onLeave: (name: string) => void): Slots {
  /** Name → how many hold it; least recently used first. */
  const users = new Map<string, number>()
  const retired = new Set<string>()
  const queue: Waiting[] = []

  function touch(name: string, numUsers: number): void {
    users.delete(name)
    users.set(name, numUsers)
  }

  function leave(name: string): void {
    users.delete(name)
    retired.delete(name)
    onLeave(name)
  }

  function tryHold(name: string): Hold | null {
    if (!users.has(name)) {
      const free = [...users].filter(([, numUsers]) => numUsers === 0)
      const numTooMany = users.size + 1 - count()
      if (free.length < numTooMany) return null
      for (const [other] of free.slice(0, Math.max(0, numTooMany))) leave(other)
    }
    retired.delete(name)
    touch(name, (users.get(name) ?? 0) + 1)
    let isReleased = false
    return {
      release() {
        if (isReleased) return
        isReleased = true
        const numUsers = users.get(name)
        if (numUsers !== undefined) touch(name, Math.max(0, numUsers - 1))
        if (users.get(name) === 0 && retired.has(name)) leave(name)
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
    retire(isRetired) {
      for (const [name, numUsers] of [...users]) {
        if (!isRetired(name)) continue
        if (numUsers === 0) leave(name)
        else retired.add(name)
      }
      serve()
    },
    names: () => [...users.keys()],
    get numWaiting() {
      return queue.length
    },
  }
}
