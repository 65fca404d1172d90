// What becomes of a chat's tools: which the template shows, how calls are read, and what the answer has to
// look like. Where the model knows no tools and the request permits an answer without them, it gets one.
//
//   tool_choice   "auto", "none", "required", {type: "function", function: {name}},
//                 {type: "allowed_tools", allowed_tools: {mode, tools: [{type, function: {name}}]}}

import type { OutputConstraint } from '../../contracts/constraint.ts'
import type { ModelInfo, ToolFormat } from '../../contracts/engine.ts'
import type { ToolDefinition } from '../../contracts/generation.ts'
import { isObject, type JsonObject } from '../../contracts/json.ts'
import type { ToolReading } from '../../tool-calls/tool-reader.ts'
import { wrong } from '../request/field-error.ts'
import { quote } from '../request/quote.ts'

const maxTools = 128
const namePattern = /^[A-Za-z0-9_.:/-]{1,128}$/

export interface ToolFields {
  readonly tools?: unknown
  readonly tool_choice?: unknown
  readonly parallel_tool_calls?: boolean | null | undefined
}

export interface ToolPlan {
  /** Those that the template shows. */
  readonly shown: readonly ToolDefinition[]
  /** null: the answer is text. */
  readonly reading: ToolReading | null
  /** null: the model decides. */
  readonly constraint: OutputConstraint | null
  /** What the answer does without. */
  readonly unused: readonly string[]
}

interface Choice {
  readonly mode: 'auto' | 'none' | 'required'
  /** null: any of them. */
  readonly names: ReadonlySet<string> | null
  readonly isNamed: boolean
}

/** `format`: what else the answer has to look like; null: anything. */
export function planTools(
  { tools: given, tool_choice: asked, parallel_tool_calls: isParallel }: ToolFields,
  { toolFormat }: Pick<ModelInfo, 'toolFormat'>,
  format: OutputConstraint | null = null,
): ToolPlan {
  const { tools, others, strict } = parseTools(given)
  const choice = parseChoice(asked, tools)
  const offered = tools.filter(({ name }) => choice.names?.has(name) ?? true)
  if (choice.mode === 'required') {
    if (offered.length === 0) throw wrong('tool_choice', 'needs tools, and there are none')
    if (format !== null) {
      throw wrong('tool_choice', 'and the form of the answer contradict each other; send one')
    }
    const maxCalls = choice.isNamed || isParallel === false ? 1 : null
    return {
      shown: toolFormat === null ? [] : offered,
      ...requiredCalls(offered, toolFormat, maxCalls),
      unused: others,
    }
  }
  if (offered.length === 0) return { ...noTools, unused: others }
  // A form leaves no room for calls.
  const isWithout = choice.mode === 'none' || toolFormat === null || format !== null
  if (isWithout) return { ...noTools, unused: ['tools'] }
  const names = offered.map(({ name }) => name)
  const maxCalls = isParallel === false ? 1 : Number.POSITIVE_INFINITY
  const reading = { format: toolFormat, names, maxCalls }
  // What the model decides to call is not held to a schema.
  return { shown: offered, reading, constraint: null, unused: [...others, ...strict] }
}

const noTools = { shown: [], reading: null, constraint: null } as const

/** Marks around calls that a grammar asks for; the model's own where they hold JSON. */
function requiredCalls(
  tools: readonly ToolDefinition[],
  format: ToolFormat | null,
  maxCalls: number | null,
): Pick<ToolPlan, 'reading' | 'constraint'> {
  const isMarked = format === 'hermes'
  return {
    reading: {
      format: isMarked ? 'hermes' : 'llama3',
      names: tools.map(({ name }) => name),
      maxCalls: maxCalls ?? Number.POSITIVE_INFINITY,
    },
    constraint: {
      kind: 'tool_calls',
      begin: isMarked ? '<tool_call>\n' : '',
      end: isMarked ? '\n</tool_call>' : '',
      separator: isMarked ? '\n' : '; ',
      maxCalls,
      tools: tools.map(({ name, parameters }) => ({
        name,
        parameters: JSON.stringify(parameters ?? { type: 'object' }),
      })),
    },
  }
}

/** Functions, where others stand (tools that a server would have to run), and what is to be strict. */
function parseTools(value: unknown): {
  readonly tools: readonly ToolDefinition[]
  readonly others: readonly string[]
  readonly strict: readonly string[]
} {
  if (value == null) return { tools: [], others: [], strict: [] }
  if (!Array.isArray(value)) throw wrong('tools', `must be a list; got ${quote(value)}`)
  if (value.length > maxTools) {
    throw wrong('tools', `may hold ${maxTools} tools; got ${value.length}`)
  }
  const tools: ToolDefinition[] = []
  const others: string[] = []
  const strict: string[] = []
  for (const [i, tool] of value.entries()) {
    const param = `tools.${i}`
    if (!isObject(tool) || typeof tool.type !== 'string') {
      throw wrong(param, `must be {type: "function", function}; got ${quote(tool)}`)
    }
    if (tool.type !== 'function') {
      others.push(param)
      continue
    }
    tools.push(parseTool(tool.function, `${param}.function`))
    if ((tool.function as JsonObject).strict === true) strict.push(`${param}.function.strict`)
  }
  const names = tools.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice !== undefined) throw wrong('tools', `must name each tool once; got ${quote(twice)}`)
  return { tools, others, strict }
}

function parseTool(tool: unknown, param: string): ToolDefinition {
  if (!isObject(tool)) throw wrong(param, `must be {name, parameters}; got ${quote(tool)}`)
  const { name, description = null, parameters = null, strict = null } = tool
  if (typeof name !== 'string' || !namePattern.test(name)) {
    throw wrong(
      `${param}.name`,
      `must be 1–128 letters, digits, "_", "-", ".", ":" or "/"; got ${quote(name)}`,
    )
  }
  if (description !== null && typeof description !== 'string') {
    throw wrong(`${param}.description`, `must be a string; got ${quote(description)}`)
  }
  if (parameters !== null && !isObject(parameters)) {
    throw wrong(`${param}.parameters`, `must be a JSON Schema; got ${quote(parameters)}`)
  }
  if (strict !== null && typeof strict !== 'boolean') {
    throw wrong(`${param}.strict`, `must be true or false; got ${quote(strict)}`)
  }
  return { name, description: description?.toWellFormed() ?? null, parameters }
}

function parseChoice(value: unknown, tools: readonly ToolDefinition[]): Choice {
  const any = { names: null, isNamed: false }
  if (value == null) return { mode: 'auto', ...any }
  if (value === 'auto' || value === 'none' || value === 'required') return { mode: value, ...any }
  if (isObject(value) && value.type === 'function' && isObject(value.function)) {
    const names = new Set([nameOf(value.function, 'tool_choice.function.name', tools)])
    return { mode: 'required', names, isNamed: true }
  }
  if (isObject(value) && value.type === 'allowed_tools' && isObject(value.allowed_tools)) {
    return allowedTools(value.allowed_tools, tools)
  }
  throw wrong(
    'tool_choice',
    `must be auto, none, required or {type: "function", function: {name}}; got ${quote(value)}`,
  )
}

function allowedTools(
  { mode, tools: allowed }: JsonObject,
  tools: readonly ToolDefinition[],
): Choice {
  const param = 'tool_choice.allowed_tools'
  if (mode !== 'auto' && mode !== 'required') {
    throw wrong(`${param}.mode`, `must be auto or required; got ${quote(mode)}`)
  }
  if (!Array.isArray(allowed)) {
    throw wrong(`${param}.tools`, `must be a list of tools; got ${quote(allowed)}`)
  }
  const names = allowed.map((tool, i) => {
    const at = `${param}.tools.${i}`
    if (!isObject(tool) || !isObject(tool.function)) {
      throw wrong(at, `must be {type: "function", function: {name}}; got ${quote(tool)}`)
    }
    return nameOf(tool.function, `${at}.function.name`, tools)
  })
  return { mode, names: new Set(names), isNamed: false }
}

function nameOf({ name }: JsonObject, param: string, tools: readonly ToolDefinition[]): string {
  const tool = tools.find((candidate) => candidate.name === name)
  if (tool !== undefined) return tool.name
  throw wrong(param, `must be the name of one of the tools; got ${quote(name)}`)
}
