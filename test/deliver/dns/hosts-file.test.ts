import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, it } from 'vitest'
import { HostsFile, parseHosts } from '../../../src/deliver/dns/hosts-file.ts'

it('reads addresses and all their names', () => {
  const names = parseHosts(
    '# a comment\r\n127.0.0.1\tlocalhost  LocalHost.localdomain # here\r\n\n::1 localhost\n' +
      'nonsense web\n10.0.0.9 web db\n10.0.0.9 web\n10.0.0.10 web\n999.1.1.1 bad\n10.0.0.1\n',
  )
  expect(Object.fromEntries(names)).toEqual({
    localhost: [
      { address: '127.0.0.1', family: 4 },
      { address: '::1', family: 6 },
    ],
    'localhost.localdomain': [{ address: '127.0.0.1', family: 4 }],
    web: [
      { address: '10.0.0.9', family: 4 },
      { address: '10.0.0.10', family: 4 },
    ],
    db: [{ address: '10.0.0.9', family: 4 }],
  })
})

it('is read again when it has changed, looked at every five seconds', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'kmsg-hosts-'))
  const file = path.join(folder, 'hosts')
  let nowMs = 0
  const hosts = new HostsFile(() => nowMs, file)
  const at = (name: string) => hosts.find(name)?.map(({ address }) => address)
  expect(at('web')).toBeUndefined()
  writeFileSync(file, '10.0.0.1 web\n')
  expect(at('web')).toBeUndefined()
  nowMs += 5_000
  expect(at('WEB')).toEqual(['10.0.0.1'])
  writeFileSync(file, '10.0.0.2 web\n')
  utimesSync(file, 1, 1)
  expect(at('web')).toEqual(['10.0.0.1'])
  nowMs += 5_000
  expect(at('web')).toEqual(['10.0.0.2'])
  rmSync(folder, { recursive: true })
  nowMs += 5_000
  expect(at('web')).toBeUndefined()
})
