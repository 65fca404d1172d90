// The base image where none can be pulled: Debian or Ubuntu from this machine's own mirror, Node and npm
// from npm, and the official image's user "node". Only what the Dockerfile relies on is like the original.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const certificates = '/etc/ssl/certs/ca-certificates.crt'

/** The first binary source of this machine's apt as {mirror, suite}. */
function ownMirror() {
  const folder = '/etc/apt/sources.list.d'
  const names = existsSync(folder) ? readdirSync(folder).sort() : []
  const read = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : '')
  for (const name of names.filter((name) => /^(debian|ubuntu)\.sources$/.test(name))) {
    const page = read(join(folder, name))
    const [, mirror] = /^URIs:\s*(\S+)/m.exec(page) ?? []
    const [, suite] = /^Suites:\s*(\S+)/m.exec(page) ?? []
    if (mirror && suite) return { mirror, suite }
  }
  const line = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s/m.exec(read('/etc/apt/sources.list'))
  if (line) return { mirror: line[1], suite: line[2] }
  throw new Error('no mirror is named in /etc/apt: neither debian.sources nor sources.list')
}

/** Node of the base's major version, and npm, as npm's registry has them. */
function copyNode({ must, base, folder, rootfs }) {
  const [, major] = /^node:(\d+)/.exec(base) ?? []
  if (major === undefined) throw new Error(`the base must be node:<version>; got ${base}`)
  const packages = join(folder, 'npm')
  mkdirSync(packages)
  writeFileSync(join(packages, 'package.json'), '{"private":true}')
  must('npm', ['install', '--no-audit', '--no-fund', `node@${major}`, 'npm@11'], { cwd: packages })
  const local = join(rootfs, 'usr/local')
  cpSync(join(packages, 'node_modules/node/bin/node'), join(local, 'bin/node'), {
    dereference: true,
  })
  cpSync(join(packages, 'node_modules/npm'), join(local, 'lib/node_modules/npm'), {
    recursive: true,
  })
  must('ln', ['-s', '../lib/node_modules/npm/bin/npm-cli.js', join(local, 'bin/npm')])
}

/** Makes the stand-in and tags it with the base's full name. */
export function buildStandIn({ must, buildah, base, folder }) {
  const { mirror, suite } = ownMirror()
  const rootfs = join(folder, 'rootfs')
  must('debootstrap', ['--variant=minbase', '--include=ca-certificates', suite, rootfs, mirror])
  copyNode({ must, base, folder, rootfs })
  // What this machine trusts, so that its mirrors answer inside too.
  const bundle = [process.env.NODE_EXTRA_CA_CERTS, certificates].find(
    (path) => path && existsSync(path),
  )
  if (bundle) cpSync(bundle, join(rootfs, certificates), { dereference: true })
  must('chroot', [rootfs, 'groupadd', '--gid', '1000', 'node'])
  must('chroot', [rootfs, 'useradd', '--uid', '1000', '--gid', 'node', '--create-home', 'node'])
  const container = buildah(['from', 'scratch'])
  buildah(['copy', '--quiet', container, rootfs, '/'])
  const config = [
    ['--env', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    ['--env', `NODE_EXTRA_CA_CERTS=${certificates}`],
    ['--cmd', 'node'],
  ]
  buildah(['config', ...config.flat(), container])
  buildah([
    'commit',
    '--quiet',
    '--rm',
    '--format',
    'docker',
    container,
    `docker.io/library/${base}`,
  ])
}
