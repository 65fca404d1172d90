// The image's recipe. No container engine is needed: scripts/image-steps.mjs runs the Dockerfile's own
// lines in a clean folder and starts what came out, as the image's user where the test may.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { root } from './support/root.ts'

const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
const lastStage = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '))

describe('the Dockerfile', () => {
  it('copies from the context only what .dockerignore lets through', () => {
    const allowed = readFileSync(join(root, '.dockerignore'), 'utf8').match(/(?<=^!).+$/gm)
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+)$/gm)].flatMap(([, words]) =>
      (words as string).split(' ').slice(0, -1),
    )
    assert.deepEqual(new Set(copied), new Set(allowed))
  })

  it('runs as another user than root, in exec form, and stops by SIGTERM', () => {
    assert.match(lastStage, /^USER node$/m)
    assert.match(lastStage, /^ENTRYPOINT \["node", "dist\/server\/main\.js"\]$/m)
    assert.match(lastStage, /^STOPSIGNAL SIGTERM$/m)
  })

  it('its steps, run in a clean folder, give a server that answers and stops with 0', () => {
    const steps = spawnSync(process.execPath, [join(root, 'scripts/image-steps.mjs')], {
      encoding: 'utf8',
      timeout: 300_000,
    })
    assert.equal(steps.status, 0, `${steps.stderr}\n${steps.stdout}`)
    const report = JSON.parse(steps.stdout.slice(steps.stdout.lastIndexOf('\n{\n')))
    assert.equal(report.status, 200)
    assert.equal(report.healthCheckExit, 0)
    // ONNX Runtime's package alone is 288 MB with all its platforms.
    assert.ok(report.megabytes.node_modules < 120, JSON.stringify(report.megabytes))
  })
})
