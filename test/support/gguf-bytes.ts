// GGUF files put together from their parts, right or wrong.

const bytesOf = (size: number, write: (buffer: Buffer) => void) => {
  const buffer = Buffer.alloc(size)
  write(buffer)
  return buffer
}
export const u8 = (value: number) => Buffer.of(value)
export const u16 = (value: number) => bytesOf(2, (buffer) => buffer.writeUInt16LE(value))
export const u32 = (value: number) => bytesOf(4, (buffer) => buffer.writeUInt32LE(value))
export const u64 = (value: number | bigint) =>
  bytesOf(8, (buffer) => buffer.writeBigUInt64LE(BigInt(value)))
export const text = (value: string | Buffer, length?: number | bigint) => {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(length ?? bytes.length), bytes])
}

/** GGUF's numbers of value types. */
export const kinds = { uint8: 0, uint16: 2, uint32: 4, int32: 5, float32: 6, bool: 7 } as const
export const stringKind = 8
export const listKind = 9

export const pair = (key: string | Buffer, kind: number, value: Buffer) =>
  Buffer.concat([text(key), u32(kind), value])

export const list = (kind: number, count: number | bigint, ...elements: Buffer[]) =>
  Buffer.concat([u32(kind), u64(count), ...elements])

export interface InfoParts {
  readonly name?: string | Buffer
  /** As GGUF has them: the innermost first. */
  readonly dims?: readonly (number | bigint)[]
  readonly numDims?: number
  readonly type?: number
  readonly offset?: number | bigint
}

/** A tensor's info; one of 8 float32 values in rows of 4 where nothing else is said. */
export function info(parts: InfoParts = {}): Buffer {
  const { name = 'a', dims = [4, 2], type = 0, offset = 0 } = parts
  const { numDims = dims.length } = parts
  return Buffer.concat([text(name), u32(numDims), ...dims.map(u64), u32(type), u64(offset)])
}

export interface FileParts {
  readonly magic?: string
  readonly version?: number
  readonly numTensors?: number | bigint
  readonly numPairs?: number | bigint
  readonly pairs?: readonly Buffer[]
  readonly infos?: readonly Buffer[]
  readonly alignment?: number
  readonly data?: Buffer
}

/** Header, padding and data; one tensor of 8 values where nothing else is said. */
export function ggufBytes(parts: FileParts = {}): Buffer {
  const { magic = 'GGUF', version = 3, pairs = [], infos = [info()], alignment = 32 } = parts
  const { numTensors = infos.length, numPairs = pairs.length, data = Buffer.alloc(32, 1) } = parts
  const counts = [u32(version), u64(numTensors), u64(numPairs)]
  const header = Buffer.concat([Buffer.from(magic), ...counts, ...pairs, ...infos])
  const padding = Buffer.alloc(Math.ceil(header.length / alignment) * alignment - header.length)
  return Buffer.concat([header, padding, data])
}
