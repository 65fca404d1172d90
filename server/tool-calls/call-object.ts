// A call as a JSON object that comes character by character: {"name": …, "arguments": {…}}, its keys in
// any order, "parameters" for "arguments". Whatever the pieces are, the same is told of the same text:
// the name once it is complete, the arguments as they were written from then on.

export type CallPart =
  | { readonly kind: 'call'; readonly name: string }
  | { readonly kind: 'arguments'; readonly text: string }

/** broken: what came is no such object. */
type CallState = 'open' | 'done' | 'broken'

type Place = 'object' | 'key' | 'in_key' | 'colon' | 'value' | 'in_value' | 'after_value'

const isSpace = (char: string): boolean => /\s/.test(char)
const maxNameLength = 256

/** `accepts`: whether there is a tool of that name. */
export function createCallObject(accepts: (name: string) => boolean) {
  const value = createValueScan()
  let place: Place = 'object'
  let key = ''
  let name: string | null = null
  /** Arguments that wait for the name; null: there are none yet. */
  let held: string | null = null
  /** Arguments that are a JSON text within a string are told when it is complete. */
  let isText = false
  let hasArguments = false
  let state: CallState = 'open'
  let parts: CallPart[] = []

  const isArguments = () => key === 'arguments' || key === 'parameters'

  function tell(text: string): void {
    hasArguments = true
    if (name === null) held = (held ?? '') + text
    else parts.push({ kind: 'arguments', text })
  }

  function break_(): void {
    state = 'broken'
  }

  function takeName(text: string): void {
    const read = parseString(text)
    if (read === null || name !== null || read.length > maxNameLength || !accepts(read)) {
      break_()
      return
    }
    name = read
    parts.push({ kind: 'call', name })
    if (held !== null) parts.push({ kind: 'arguments', text: held })
    held = null
  }

  function endValue(): void {
    place = 'after_value'
    if (key === 'name') takeName(value.text)
    else if (isArguments() && isText) {
      const text = parseString(value.text)
      if (text === null) break_()
      else tell(text)
    }
  }

  function beginValue(char: string): void {
    isText = isArguments() && char === '"'
    place = 'in_value'
    value.begin(char, key === 'name' || isText)
    const isWrong = isArguments()
      ? hasArguments || (char !== '{' && !isText)
      : key === 'name' && char !== '"'
    if (isWrong || value.isBroken) break_()
    else if (isArguments() && !isText) tell(char)
  }

  function inValue(char: string): void {
    const was = value.push(char)
    if (was === 'before') {
      endValue()
      if (state === 'open') afterValue(char)
      return
    }
    if (isArguments() && !isText) tell(char)
    if (was === 'end') endValue()
    else if (value.isBroken) break_()
  }

  function afterValue(char: string): void {
    if (isSpace(char)) return
    if (char === ',') place = 'key'
    else if (char === '}' && name !== null) {
      state = 'done'
      if (!hasArguments) tell('{}')
    } else break_()
  }

  function step(char: string): void {
    switch (place) {
      case 'object':
        if (isSpace(char)) return
        if (char === '{') place = 'key'
        else break_()
        return
      case 'key':
        if (isSpace(char)) return
        if (char !== '"') break_()
        place = 'in_key'
        key = ''
        return
      case 'in_key':
        if (char === '"') place = 'colon'
        else if (char === '\\' || key.length > maxNameLength) break_()
        else key += char
        return
      case 'colon':
        if (char === ':') place = 'value'
        else if (!isSpace(char)) break_()
        return
      case 'value':
        if (!isSpace(char)) beginValue(char)
        return
      case 'in_value':
        inValue(char)
        return
      case 'after_value':
        afterValue(char)
    }
  }

  return {
    get state() {
      return state
    },
    /** The name was told. */
    get isTold() {
      return name !== null
    },
    /** Takes one character; what there is to tell. Nothing is taken once it is not open. */
    push(char: string): readonly CallPart[] {
      step(char)
      const told = parts
      if (told.length > 0) parts = []
      return told
    },
  }
}

/** One JSON value, from its first character to its last. */
function createValueScan() {
  let text = ''
  let keeps = false
  let kind: 'string' | 'nested' | 'plain' = 'plain'
  const closers: string[] = []
  let isInString = false
  let isEscaped = false
  let isBroken = false

  function inString(char: string): boolean {
    if (isEscaped) isEscaped = false
    else if (char === '\\') isEscaped = true
    else if (char === '"') return true
    return false
  }

  return {
    get text() {
      return text
    },
    get isBroken() {
      return isBroken
    },
    /** `keepsText`: its text is wanted as a whole. */
    begin(char: string, keepsText: boolean): void {
      text = char
      keeps = keepsText
      closers.length = 0
      isInString = char === '"'
      isEscaped = false
      isBroken = false
      kind = char === '"' ? 'string' : char === '{' || char === '[' ? 'nested' : 'plain'
      if (kind === 'nested') closers.push(char === '{' ? '}' : ']')
      if (kind === 'plain' && !/[-\dtfn]/.test(char)) isBroken = true
    },
    /** end: it is complete with this character; before: it was complete without it. */
    push(char: string): 'on' | 'end' | 'before' {
      if (kind === 'plain') return /[\w.+-]/.test(char) ? 'on' : 'before'
      if (keeps) text += char
      if (isInString) {
        if (!inString(char)) return 'on'
        isInString = false
        return kind === 'string' ? 'end' : 'on'
      }
      if (char === '"') isInString = true
      else if (char === '{') closers.push('}')
      else if (char === '[') closers.push(']')
      else if (char === '}' || char === ']') {
        if (closers.pop() !== char) isBroken = true
        else if (closers.length === 0) return 'end'
      }
      return 'on'
    },
  }
}

function parseString(text: string): string | null {
  try {
    return String(JSON.parse(text))
  } catch {
    return null
  }
}
