// Uploads that must be refused and leave nothing behind. Each is {what, expected, send}: `send` resolves
// to the code of the error that came, or to "cut" where the client itself broke off.

import { connect } from 'node:net'
import { uploadForm } from './contents.mjs'

const name = 'never'
const tensors = 'adapter_model.safetensors'
const config = 'adapter_config.json'

async function codeOf(api, body, more) {
  const { status, answer } = await api.call('POST', '/v1/adapters', { body, more })
  return status < 300 ? `accepted (${status})` : answer.error.code
}

/** An upload whose files are changed. */
const changed = (what, expected, change, fields = {}) => ({
  what,
  expected,
  send: (api, { files }) =>
    codeOf(api, uploadForm({ files: { ...files, ...change(files) } }, { name, ...fields })),
})

const cutTo = (share) => (files) => ({
  [tensors]: files[tensors].subarray(0, Math.floor(files[tensors].length * share)),
})

/** The last four bytes are a value of float32. */
function withNotANumber(files) {
  const bytes = Buffer.from(files[tensors])
  bytes.fill(0xff, bytes.length - 4)
  return { [tensors]: bytes }
}

function withConfig(fields) {
  return (files) => ({ [config]: JSON.stringify({ ...JSON.parse(files[config]), ...fields }) })
}

export const badUploads = [
  changed('tensors cut short', ['invalid_adapter'], cutTo(0.7)),
  changed('tensors that are not finite', ['invalid_adapter'], withNotANumber),
  changed('no tensors at all', ['invalid_adapter'], () => ({ [tensors]: '' })),
  changed('a config that is no JSON', ['invalid_adapter'], () => ({ [config]: '{"r": 1,' })),
  changed('a rank that the tensors have not', ['invalid_adapter'], withConfig({ r: 2 })),
  changed('another kind of adapter', ['invalid_adapter', 'unsupported_adapter'], () => ({
    [config]: '{"peft_type": "PREFIX_TUNING"}',
  })),
  changed('a pickle', ['unsupported_adapter'], () => ({ 'adapter_model.bin': 'x' })),
  changed('an archive', ['invalid_adapter'], () => ({ 'adapter.zip': 'PK' })),
  changed('a name that leads out', ['invalid_value'], () => ({}), { name: '../never' }),
  changed('a digest that it has not', ['invalid_adapter'], () => ({}), { digest: '0'.repeat(64) }),
  changed('an unknown field', ['unsupported_parameter'], () => ({}), { repalce: 'true' }),
  changed('a name that is taken', ['adapter_exists'], () => ({}), { name: 'live' }),
  {
    what: 'no multipart',
    expected: ['invalid_request'],
    send: (api) => codeOf(api, 'x', { 'content-type': 'multipart/form-data; boundary=none' }),
  },
  {
    what: 'a key without the role',
    expected: ['insufficient_permissions', 'invalid_api_key'],
    send: (api, content) =>
      codeOf(api, uploadForm(content, { name }), { authorization: 'Bearer somebody' }),
  },
  { what: 'broken off half-way', expected: ['cut'], send: breakOff },
]

/** Half of the declared bytes, then the connection is gone. */
function breakOff(api, { files }) {
  const { hostname, port, host } = new URL(api.url)
  const part = `--b\r\ncontent-disposition: form-data; name="file"; filename="${tensors}"\r\n\r\n`
  const bytes = files[tensors]
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname)
    socket.once('error', reject)
    socket.write(
      `POST /v1/adapters HTTP/1.1\r\nhost: ${host}\r\nauthorization: ${api.authorization}\r\n` +
        `content-type: multipart/form-data; boundary=b\r\ncontent-length: ${2 * bytes.length}\r\n\r\n`,
    )
    socket.write(part)
    socket.write(bytes, () => {
      socket.destroy()
      resolve('cut')
    })
  })
}
