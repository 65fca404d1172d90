// vLLM's way to load and unload adapters: its bodies, its sentences, its errors.

import { z } from 'zod'
import type { AdapterChange } from '../../contracts/adapter.ts'
import { ServerError } from '../../errors.ts'

const text = z.string().min(1).max(4096)
const loadSchema = z.object({
  lora_name: text,
  lora_path: text,
  load_inplace: z.boolean().nullish(),
})
const unloadSchema = z.object({ lora_name: text })

type Body = Readonly<Record<string, unknown>>

export function parseVllmLoad(body: Body): Extract<AdapterChange, { kind: 'load' }> {
  const { success, data } = loadSchema.safeParse(body)
  if (!success) throw missing("Both 'lora_name' and 'lora_path' must be provided.")
  return {
    kind: 'load',
    id: data.lora_name,
    folder: data.lora_path,
    replace: data.load_inplace ?? false,
    digest: null,
    pinned: null,
  }
}

/** There as here the files stay, and may be loaded again. */
export function parseVllmUnload(body: Body): Extract<AdapterChange, { kind: 'remove' }> {
  const { success, data } = unloadSchema.safeParse(body)
  if (!success) throw missing("'lora_name' needs to be provided to unload a LoRA adapter.")
  return { kind: 'remove', id: data.lora_name, waitMs: 0, keepsFiles: true }
}

export function vllmSuccess(id: string, what: 'added' | 'removed'): Response {
  return new Response(`Success: LoRA adapter '${id}' ${what} successfully.`, {
    headers: { 'content-type': 'text/plain; charset=utf-8' },
  })
}

/** `code` is the status there, and a name that is taken is a 400. */
export function vllmError(id: string, error: ServerError): Response {
  const { status, type, message } = shownAs(id, error)
  const body = { error: { message, type, param: error.param, code: status } }
  return Response.json(body, { status, headers: error.headers })
}

function shownAs(id: string, { code, status, message }: ServerError) {
  switch (code) {
    case 'adapter_exists':
      return {
        status: 400,
        type: 'InvalidUserInput',
        message:
          `The lora adapter '${id}' has already been loaded. If you want to load the adapter in ` +
          "place, set 'load_inplace' to True.",
      }
    case 'model_not_found':
      return { status, type: 'NotFoundError', message }
    default:
      return { status, type: status < 500 ? 'InvalidUserInput' : 'InternalServerError', message }
  }
}

function missing(message: string): ServerError {
  return new ServerError('invalid_value', message)
}
