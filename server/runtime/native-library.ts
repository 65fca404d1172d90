// Loads shared libraries for good.

import koffi from 'koffi'

// koffi gives asynchronous calls small stacks; compiling a GPU's shaders overflows 128 KiB.
const stackBytes = 8 * 2 ** 20

type Library = ReturnType<typeof koffi.load>

/**
 * Held for ever: koffi unloads a library whose handle is collected, while the addresses of its
 * functions live on.
 */
const libraries = new Map<string, Library>()

export function loadLibrary(path: string): Library {
  // Stacks can only be configured before the first library.
  if (libraries.size === 0) koffi.config({ ...koffi.config(), async_stack_size: stackBytes })
  const library = libraries.get(path) ?? koffi.load(path)
  libraries.set(path, library)
  return library
}
