// The GPU as tests find it: whatever WebGPU finds. A machine without one has SwiftShader, which
// .ci/run installs.

import { type ModelDevice, openDevice } from '../../server/runtime/device.ts'

function open(): { device: ModelDevice } | { error: Error } {
  try {
    return { device: openDevice('webgpu', null) }
  } catch (error) {
    return { error: error as Error }
  }
}

const opened = open()

/** A reason to skip a test that needs a GPU, or false; never skips under REQUIRE_ALL. */
export const lacksGpu: string | false =
  'device' in opened || process.env.DUTYFREE_REQUIRE_ALL === '1'
    ? false
    : 'no GPU and no software driver for Vulkan: .ci/run installs one'

export function requireGpu(): ModelDevice {
  if ('error' in opened) throw opened.error
  return opened.device
}
