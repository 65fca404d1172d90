// How a run is getting on: one line that is written over on a terminal, a plain line every ten seconds
// elsewhere.

const plainSeconds = 10

export function createProgress(output = process.stderr) {
  let isOpen = false
  let lastPlain

  function describe(name, seconds, samples, numFailed) {
    const [last, former] = [samples.at(-1), samples.at(-2) ?? samples.at(-1)]
    const passed = last.atSeconds - former.atSeconds
    const tokens = passed > 0 ? (last.tokens - former.tokens) / passed : 0
    return [
      `${name} ${Math.round(last.atSeconds)}/${Math.round(seconds)} s`,
      `${last.running} running`,
      `${last.waiting} waiting`,
      `${tokens.toFixed(0)} tokens/s`,
      ...(last.rssMiB ? [`RSS ${last.rssMiB.toFixed(0)} MiB`] : []),
      `${numFailed} failed`,
    ].join(' · ')
  }

  function breakLine() {
    if (isOpen) output.write('\n')
    isOpen = false
  }

  return {
    show(name, seconds, samples, numFailed) {
      const line = describe(name, seconds, samples, numFailed)
      if (output.isTTY) {
        output.write(`\r${line}\u001b[K`)
        isOpen = true
        return
      }
      const at = samples.at(-1).atSeconds
      if (lastPlain !== undefined && at - lastPlain < plainSeconds) return
      lastPlain = at
      output.write(`${line}\n`)
    },
    note(line) {
      breakLine()
      output.write(`${line}\n`)
    },
    end() {
      breakLine()
      lastPlain = undefined
    },
  }
}
