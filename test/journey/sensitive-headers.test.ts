import { describe, expect } from 'vitest'
import { journey } from './stage.ts'

const given = {
  Authorization: 'Bearer of-bad-news',
  Cookie: 'session=of-parliament',
  'X-Api-Key': 'key-of-heaven',
  'X-Client-Secret': 'secret-of-success',
  'X-Access-Token': 'token-of-esteem',
  'X-Password': 'pass-of-the-word',
  'X-Team': 'billing',
}
const masked = {
  Authorization: '***',
  Cookie: '***',
  'X-Api-Key': '***',
  'X-Client-Secret': '***',
  'X-Access-Token': '***',
  'X-Password': '***',
  'X-Team': 'billing',
}

describe('values of sensitive headers', () => {
  journey('are sent, and never read', async (stage) => {
    const service = await stage.open()
    const facts: unknown[] = []
    service.on('endpoint.changed', (fact) => facts.push(fact))
    const registered = await service.registerEndpoint(stage.endpoint('shop', { headers: given }))
    expect(registered.headers).toEqual(masked)
    const updated = await service.updateEndpoint('shop', { name: 'another' })
    const rotated = await service.rotateSecret('shop')
    const reads = [
      ...[registered, updated, rotated, await service.pauseEndpoint('shop')],
      ...[await service.resumeEndpoint('shop'), await service.getEndpoint('shop')],
      ...[await service.listEndpoints({ tenantId: '*' }), facts],
      ...[await service.getEndpointHistory('shop'), service.registry.match({ type: 'a.b' })],
    ]
    for (const value of Object.values(given).slice(0, -1)) {
      expect(JSON.stringify(reads)).not.toContain(value)
    }
    await service.dispatchEvent(stage.event())
    await service.runDue()
    const sent = stage.at('shop')[0]?.headers ?? {}
    for (const [name, value] of Object.entries(given)) expect(sent[name.toLowerCase()]).toBe(value)
  })

  journey('stay what they are when they are written back as they were read', async (stage) => {
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { headers: given }))
    const read = (await service.getEndpoint('shop'))?.headers ?? {}
    expect(
      (await service.registerEndpoint(stage.endpoint('shop', { headers: read }))).version,
    ).toBe(1)
    // One is changed, one is left out, one is written in another case.
    const { Cookie: _, Authorization: __, ...rest } = read
    await service.updateEndpoint('shop', {
      headers: { ...rest, authorization: '***', 'X-Api-Key': 'another-key' },
    })
    await service.dispatchEvent(stage.event())
    await service.runDue()
    const sent = stage.at('shop')[0]?.headers ?? {}
    expect(sent.authorization).toBe(given.Authorization)
    expect(sent['x-api-key']).toBe('another-key')
    expect(sent['x-access-token']).toBe(given['X-Access-Token'])
    expect(sent.cookie).toBeUndefined()
    expect(sent['x-team']).toBe('billing')
  })

  journey('are not three stars: there must be one to keep', async (stage) => {
    const service = await stage.open()
    const wrong = stage.endpoint('shop', { headers: { 'X-Api-Key': '***' } })
    const refusal = { code: 'ENDPOINT_INVALID', message: expect.stringContaining('"X-Api-Key"') }
    await expect(service.registerEndpoint(wrong)).rejects.toMatchObject(refusal)
    await service.registerEndpoint(stage.endpoint('shop', { headers: { 'X-Stars': '***' } }))
    await expect(service.registerEndpoint(wrong)).rejects.toMatchObject(refusal)
    expect((await service.getEndpoint('shop'))?.headers).toEqual({ 'X-Stars': '***' })
  })
})
