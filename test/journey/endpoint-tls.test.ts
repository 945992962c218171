/** mTLS through the whole service: written, read without its key, kept over restarts, taken away. */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { createEncryptionKey } from '@k-msg/webhook'
import { expect } from 'vitest'
import { Authority } from '../deliver/tls/certificates.ts'
import { receiveTls } from '../deliver/tls/receivers.ts'
import { fileJourney, journey } from './stage.ts'

fileJourney(
  'a client certificate is used after a restart, and reads never show its key',
  async (stage) => {
    const authority = new Authority()
    const own = authority.certify('client-a')
    await using receiver = await receiveTls({
      ...authority.certify('127.0.0.1', { hosts: ['127.0.0.1'] }),
      ca: authority.cert,
      requestCert: true,
    })
    const tls = { ca: authority.cert, ...own }
    const url = `https://127.0.0.1:${receiver.port}/`
    const first = await stage.open()
    const registered = await first.registerEndpoint({ id: 'mtls', url, events: ['*'], tls })
    expect(registered.tls).toEqual({ ca: authority.cert, cert: own.cert, key: '***' })
    expect((await first.registerEndpoint({ id: 'mtls', url, events: ['*'], tls })).version).toBe(1)
    await first.close()

    const second = await stage.open()
    expect((await second.getEndpoint('mtls'))?.tls?.key).toBe('***')
    expect(JSON.stringify(await second.getEndpointHistory('mtls'))).not.toContain('PRIVATE')
    await second.dispatchEvent(stage.event())
    await stage.passTime(second)
    expect(receiver.requests.map(({ client }) => client)).toEqual(['client-a'])

    const without = await second.updateEndpoint('mtls', { tls: { ca: authority.cert } })
    expect(without).toMatchObject({ tls: { ca: authority.cert }, version: 2 })
    expect(await second.testEndpoint('mtls')).toMatchObject({ success: false })
    expect((await second.updateEndpoint('mtls', { tls: null })).tls).toBeNull()
    await second.removeEndpoint('mtls')
    await second.close()
    const file = readFileSync(stage.dataFile)
    expect(file.includes(own.key.split('\n')[1] ?? '')).toBe(false)
  },
)

journey('TLS settings of an endpoint are refused at the door', async (stage) => {
  const service = await stage.open()
  for (const tls of [{ ca: 'no certificate' }, { ca: new Authority().cert }]) {
    // The second one is for https, which the inbox does not speak.
    const refused = service.registerEndpoint(stage.endpoint('bad', { tls }))
    await expect(refused).rejects.toMatchObject({ code: 'ENDPOINT_INVALID' })
  }
})

fileJourney(
  'the private key is encrypted at rest, and kept when it is written back masked',
  async (stage) => {
    const authority = new Authority()
    const own = authority.certify('client-a')
    const encryptionKeys = [createEncryptionKey('k1')]
    const service = await stage.open({ encryptionKeys })
    const url = 'https://127.0.0.1:8443/'
    await service.registerEndpoint({ id: 'mtls', url, events: ['*'], tls: own })
    const read = await service.getEndpoint('mtls')
    const again = { id: 'mtls', url, events: ['*'], tls: read?.tls }
    expect(await service.registerEndpoint(again)).toMatchObject({ version: 1 })
    const tls = { ...read?.tls, ca: authority.cert }
    expect(await service.updateEndpoint('mtls', { tls })).toMatchObject({ version: 2 })
    expect(service.registry.find('mtls')?.tls).toEqual({ ...own, ca: authority.cert })
    const onHttp = service.updateEndpoint('mtls', { url: 'http://127.0.0.1:8080/' })
    await expect(onHttp).rejects.toMatchObject({ code: 'ENDPOINT_INVALID' })
    await service.backup(path.join(stage.folder, 'backup.db'))
    const secretLine = own.key.split('\n')[1] ?? ''
    expect(secretLine).toHaveLength(64)
    const files = readdirSync(stage.folder).filter((name) => name.includes('.db'))
    expect(files).toContain('backup.db')
    for (const name of files) {
      expect(readFileSync(path.join(stage.folder, name)).includes(secretLine)).toBe(false)
    }
    await service.close()
    const later = await stage.open({ encryptionKeys })
    expect(later.registry.find('mtls')?.tls).toEqual({ ...own, ca: authority.cert })
  },
)
