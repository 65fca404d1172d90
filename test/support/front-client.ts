// An unmodified client package against the front over a socket, and what its stream's events say.

import assert from 'node:assert/strict'
import { within } from './deadline.ts'
import { createFakeEngine, fakeModel, type Script } from './fake-engine.ts'
import { createFront, type Front, type FrontOptions, listen } from './front.ts'

export const clientPatience = 10_000

/** Listens while the test runs, which gets the client that `connect` makes. */
export async function withServedFront<Client>(
  options: FrontOptions,
  connect: (url: string) => Client,
  test: (client: Client, front: Front) => Promise<void>,
): Promise<void> {
  const front = createFront(options)
  const server = await listen(front)
  try {
    await within(clientPatience, 'client test', test(connect(server.url), front))
  } finally {
    await server.close()
  }
}

export function scripted(script: Script, model = fakeModel) {
  const engine = createFakeEngine({ script })
  engine.model = model
  return engine
}

/** A model that was trained to call tools, and a call of it. */
export const calling = { ...fakeModel, toolFormat: 'hermes' as const }
export const callText = 'Wait.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'

/** Events of a stream, each with the name that its line has. */
export async function namedEvents(response: Response) {
  assert.equal(response.status, 200, await response.clone().text())
  const text = await response.text()
  return text
    .split('\n\n')
    .filter((block) => block.startsWith('event: '))
    .map((block) => {
      const [, name, data] = /^event: (\S+)\ndata: (.*)$/s.exec(block)!
      // biome-ignore lint/suspicious/noExplicitAny: a test asserts on whatever came
      const event = JSON.parse(data!) as any
      assert.equal(event.type, name)
      return event
    })
}
