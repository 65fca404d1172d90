// Where prompts leave their reply, with templates that open a thought, or none, or know a switch: what a
// message says moves nothing, a thought can be switched off, and a message can be continued.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { ChatInput, ChatMessage } from '../server/contracts/generation.ts'
import { loadChatTemplate } from '../server/tokenizer/chat-template.ts'
import { loadTokenizer } from '../server/tokenizer/tokenizer.ts'
import { writeByteTokenizer } from './support/byte-tokenizer.ts'
import { addedTokens, templatesLike } from './support/chat-templates.ts'
import { createRandomNumbers, pick } from './support/random-numbers.ts'
import { createTempFolder } from './support/temp-folder.ts'

const temp = createTempFolder()
let numFolders = 0

function load(source: string, marks = true) {
  const dir = join(temp, `template-${++numFolders}`)
  writeByteTokenizer(dir, { json: { added_tokens: addedTokens({ marks }) } })
  writeFileSync(join(dir, 'chat_template.jinja'), source)
  const tokenizer = loadTokenizer(dir)
  const template = loadChatTemplate(dir, tokenizer)
  return (messages: readonly ChatMessage[], more: Omit<ChatInput, 'messages'> = {}) => {
    const options = { addGenerationPrompt: true, ...more }
    const { tokens, phase } = template.encode(messages, options)
    return { text: template.render(messages, options), tokens, phase, tokenizer }
  }
}

const user = (content: string): ChatMessage => ({ role: 'user', content })
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content })
const system = (content: string): ChatMessage => ({ role: 'system', content })

const sayings = ['Say <think> please.', '<think>', '<think>\n', '</think>', 'a</think><think>']

for (const { name, source, marks, ends } of templatesLike) {
  const encode = load(source, marks)
  const phaseOf = (end: string) => {
    if (/<think>\s*$/.test(end)) return 'opened'
    return /<\/think>\s*$/.test(end) ? 'closed' : 'beginning'
  }

  describe(`the template ${name}`, () => {
    it('leaves the reply where its own ending does, also where thinking is switched', () => {
      for (const [end, thinking] of [
        [ends.plain, undefined],
        [ends.on, true],
        [ends.off, false],
      ] as const) {
        const { text, phase } = encode([user('2+2?')], { thinking })
        assert.ok(text.endsWith(`${end}`), text)
        assert.ok(!text.slice(0, -end.length).includes('think'), text)
        assert.equal(phase, phaseOf(end))
      }
    })

    it('is not moved by what a message says, of whatever role, now or earlier', () => {
      for (const saying of sayings) {
        for (const messages of [
          [user(saying)],
          [system(saying), user('x')],
          [user('x'), assistant(saying), user('y')],
          [user('x'), assistant(`so</think>${saying}`), user('y')],
          [user(saying), assistant('a'), user(saying)],
        ]) {
          for (const thinking of [undefined, true, false]) {
            const { phase, tokens, tokenizer } = encode(messages, { thinking })
            const end = ends[thinking === undefined ? 'plain' : thinking ? 'on' : 'off']
            assert.equal(phase, phaseOf(end), JSON.stringify(messages))
            // The tokens of the ending are those that the template's text has.
            const own = tokenizer.encode(end)
            assert.deepEqual(tokens.slice(-own.length), own)
          }
        }
      }
    })

    it('reads what a message says as the reference tokenizer does where marks are text', () => {
      if (marks) return
      const { tokens, text, tokenizer } = encode([user('Say <think> or </think>, abc')])
      assert.deepEqual(tokens, tokenizer.encode(text))
    })

    it('continues an answer: the prompt ends with it, and the reply is in it', () => {
      for (const thinking of [undefined, true, false]) {
        const { text, phase } = encode([user('2+2?'), assistant('It is')], {
          continuesLast: true,
          thinking,
        })
        // A reply that would begin with a thought has an empty one; else the template's own form.
        const end = ends[thinking === undefined ? 'plain' : thinking ? 'on' : 'off']
        const closed = end.replace(/<think>\n$/, '<think>\n\n</think>\n\n')
        assert.ok(text.endsWith(`${closed}It is`), text)
        assert.equal(phase, 'answering')
      }
      const empty = encode([user('2+2?'), assistant('')], { continuesLast: true })
      assert.equal(empty.phase, phaseOf(ends.plain))
    })

    it('continues a thought, open or closed, with marks as the model writes them', () => {
      const messages = (content: string) => [user('2+2?'), assistant(content)]
      const open = encode(messages('<think>\nTwo <think>'), { continuesLast: true })
      assert.ok(open.text.endsWith('<think>\nTwo <think>'), open.text)
      assert.equal(open.phase, 'thinking')
      const start = encode(messages('<think>\n'), { continuesLast: true })
      assert.equal(start.phase, 'opened')
      for (const content of ['<think>\nTwo.\n</think>\n\nIt is', 'Two.</think>It is']) {
        const closed = encode(messages(content), { continuesLast: true })
        assert.ok(closed.text.endsWith('<think>\nTwo.\n</think>\n\nIt is'), closed.text)
        assert.equal(closed.phase, 'answering')
      }
      if (!marks) return
      const { tokenizer } = open
      const [start1, end1] = [tokenizer.idOf('<think>'), tokenizer.idOf('</think>')]
      // One mark each, however many the message spells.
      const forged = encode(messages('<think>a<think></think>b</think>c'), { continuesLast: true })
      assert.deepEqual(
        forged.tokens.filter((id) => id === start1 || id === end1),
        [start1, end1],
      )
    })

    it('refuses to continue a thought where thinking is switched off', () => {
      for (const content of ['<think>\nTwo', '<think>Two</think>It is']) {
        assert.throws(
          () => encode([user('x'), assistant(content)], { continuesLast: true, thinking: false }),
          { code: 'invalid_value', message: /thinking is switched off/ },
        )
      }
      const { phase } = encode([user('x'), assistant('<think>\n\n</think>\n\nIt')], {
        continuesLast: true,
        thinking: false,
      })
      assert.equal(phase, 'answering')
    })
  })
}

describe('a template', () => {
  const turns = "{% for m in messages %}{{ m['content'] }}|{% endfor %}"
  const ending = (text: string) => `{% if add_generation_prompt %}{{ '${text}' }}{% endif %}`

  it('may speak of the marks in words of its own', () => {
    const words = 'Begin with <think> and be brief. '
    assert.equal(load(`${words}${turns}${ending('A:')}`)([user('x')]).phase, 'beginning')
    assert.equal(load(`${words}${turns}${ending('<think>')}`)([user('x')]).phase, 'opened')
  })

  it('may begin the thought with words of its own', () => {
    const begun = load(`${turns}${ending('<think>\\nOkay, ')}`)
    assert.equal(begun([user('x')]).phase, 'thinking')
    assert.deepEqual(
      begun([user('x')], { thinking: false }).text,
      'x|<think>\nOkay, \n\n</think>\n\n',
    )
  })

  it('may know "thinking", as DeepSeek’s later ones do', () => {
    const encode = load(`${turns}${ending('A:')}{{ '<think>' if thinking else '</think>' }}`)
    const phases = [undefined, true, false].map(
      (thinking) => encode([user('x')], { thinking }).phase,
    )
    assert.deepEqual(phases, ['closed', 'opened', 'closed'])
  })

  it('that trims contents trims the message to continue too', () => {
    const trims = load("{% for m in messages %}{{ m['content'] | trim }}|{% endfor %}")
    const messages = [user('x'), assistant('It is ')]
    assert.equal(trims(messages, { continuesLast: true }).text, 'x|It is')
    assert.equal(load(turns)(messages, { continuesLast: true }).text, 'x|It is ')
  })

  it('that leaves the last message out cannot continue it', () => {
    const encode = load("{{ messages[0]['content'] }}")
    assert.throws(() => encode([user('x'), assistant('y')], { continuesLast: true }), {
      code: 'invalid_request',
      message: /cannot be continued/,
    })
  })
})

describe('messages at random', () => {
  const words = ['<think>', '</think>', '<thi', 'nk>', '</', 'a', '\n', ' ', '\u0338', '<|im_end|>']
  const odd = ['\uFDD0', '\uFDD1', '\uFDD2', '\uFDD2 ', '<｜User｜>', '<｜end▁of▁sentence｜>', '']

  it('move nothing, add no mark, and can be continued (500 for each template)', () => {
    const random = createRandomNumbers(16)
    const content = () =>
      Array.from({ length: pick(random, 6) }, () => {
        return [...words, ...odd][pick(random, words.length + odd.length)]
      }).join('')
    for (const { source, marks, ends } of templatesLike) {
      const encode = load(source, marks)
      const { phase: want } = encode([user('x')])
      for (let round = 0; round < 500; round++) {
        const history = [system(content()), user(content()), assistant(content()), user(content())]
        const { phase, tokens, tokenizer } = encode(history)
        const hint = JSON.stringify(history)
        assert.equal(phase, want, hint)
        const numOpened = tokens.filter((id) => id === tokenizer.idOf('<think>')).length
        assert.equal(numOpened, marks && ends.plain.includes('<think>') ? 1 : 0, hint)
        const continued = encode([...history, assistant(content())], { continuesLast: true })
        assert.ok(continued.tokens.length > 0)
        assert.doesNotMatch(continued.text, /[\uFDD0-\uFDD2]/u, hint)
        const numMarks = continued.tokens.filter((id) => id === tokenizer.idOf('<think>')).length
        assert.ok(numMarks <= 1, hint)
      }
    }
  })
})
