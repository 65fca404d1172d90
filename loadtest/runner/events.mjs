// Server-sent events of a response's body, as they come: https://html.spec.whatwg.org/#parsing-an-event-stream

/** Yields the data of each event; one that the body's end cuts off is not given. */
export async function* readEvents(body) {
  const decoder = new TextDecoder()
  let rest = ''
  let data = []
  for await (const part of body) {
    // A carriage return at the end may be half of an end of line.
    const lines = (rest + decoder.decode(part, { stream: true })).split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop()
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield data.join('\n')
        data = []
        continue
      }
      const [, field, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line)
      if (field === 'data') data.push(value)
    }
  }
}
