/** Resolver against answers by hand, on a clock by hand. */
import type { LookupAddress, RecordWithTtl } from 'node:dns'
import { expect, it } from 'vitest'
import type { DnsClient } from '../../../src/deliver/dns/question.ts'
import { Resolver, type ResolverOptions } from '../../../src/deliver/dns/resolver.ts'
import { manualTimers } from './manual-timers.ts'

type Reply = readonly RecordWithTtl[] | string

/** A name server that answers when the test says so. */
function stage(options: Partial<ResolverOptions> = {}) {
  const timers = manualTimers()
  const asked: string[] = []
  const open = new Map<string, (reply: Reply) => void>()
  let clients = 0
  const question = (type: string) => (name: string) =>
    new Promise<RecordWithTtl[]>((resolve, reject) => {
      asked.push(`${type} ${name}`)
      open.set(`${type} ${name}`, (reply) => {
        if (typeof reply === 'string') reject(failure(reply))
        else resolve([...reply])
      })
    })
  const createClient = (): DnsClient => {
    clients += 1
    return { resolve4: question('A'), resolve6: question('AAAA'), cancel: () => {} }
  }
  const system: string[] = []
  const resolver = new Resolver({
    servers: [],
    timeoutMs: 4_000,
    askSystem: false,
    monotonicMs: timers.monotonicMs,
    setTimer: timers.setTimer,
    createClient,
    hosts: {
      find: (name) => (name === 'printer' ? [{ address: '10.0.0.9', family: 4 }] : undefined),
    },
    system: {
      lookup(name, done) {
        system.push(name)
        queueMicrotask(() => done(null, [{ address: '10.0.0.7', family: 4 }]))
        return () => {}
      },
    },
    ...options,
  })
  return {
    timers,
    asked,
    system,
    clients: () => clients,
    resolver,
    async reply(question: string, reply: Reply) {
      open.get(question)?.(reply)
      open.delete(question)
      await turns()
    },
    look: (name: string) => look(resolver, name),
  }
}

function look(resolver: Resolver, name: string) {
  const result: { error?: string | undefined; addresses?: string[] } = {}
  resolver.lookup(name, (error, addresses: readonly LookupAddress[]) => {
    if (error === null) result.addresses = addresses.map(({ address }) => address)
    else result.error = error.code
  })
  return result
}

const failure = (code: string) => Object.assign(new Error(code), { code })
const turns = () => new Promise<void>((resolve) => setImmediate(resolve))
const v4 = (ttl: number, ...addresses: string[]) => addresses.map((address) => ({ address, ttl }))

it('asks for both families at once and gives IPv4 first', async () => {
  const { asked, reply, look } = stage()
  const result = look('Hooks.example.net')
  expect(asked).toEqual(['A hooks.example.net', 'AAAA hooks.example.net'])
  await reply('AAAA hooks.example.net', v4(60, '2606:4700::1'))
  expect(result).toEqual({})
  await reply('A hooks.example.net', v4(60, '8.8.8.8', '8.8.4.4'))
  expect(result).toEqual({ addresses: ['8.8.8.8', '8.8.4.4', '2606:4700::1'] })
})

it('does not wait long for the other family once it has addresses', async () => {
  const { timers, reply, look } = stage()
  const result = look('hooks.example.net')
  await reply('A hooks.example.net', v4(60, '8.8.8.8'))
  timers.advance(199)
  expect(result).toEqual({})
  timers.advance(1)
  await turns()
  expect(result).toEqual({ addresses: ['8.8.8.8'] })
})

it('waits for the other family when the first has none', async () => {
  const { timers, reply, look } = stage()
  const result = look('six.example.net')
  await reply('A six.example.net', 'ENODATA')
  timers.advance(1_000)
  await reply('AAAA six.example.net', v4(60, '2606:4700::1'))
  expect(result).toEqual({ addresses: ['2606:4700::1'] })
})

it('keeps an answer for its TTL, at most five minutes, and 0 not at all', async () => {
  for (const [ttl, keptMs] of [
    [30, 30_000],
    [86_400, 300_000],
    [0, 0],
  ] as const) {
    const { timers, asked, reply, look } = stage()
    look('a.example.net')
    await reply('A a.example.net', v4(ttl, '8.8.8.8'))
    await reply('AAAA a.example.net', 'ENODATA')
    if (keptMs > 0) {
      timers.advance(keptMs - 1)
      const again = look('a.example.net')
      await turns()
      expect(again).toEqual({ addresses: ['8.8.8.8'] })
      expect(asked).toHaveLength(2)
      timers.advance(1)
    }
    look('a.example.net')
    expect(asked).toHaveLength(4)
  }
})

it('takes the shortest TTL of all records', async () => {
  const { timers, asked, reply, look } = stage()
  look('a.example.net')
  await reply('A a.example.net', [...v4(60, '8.8.8.8'), ...v4(5, '8.8.4.4')])
  await reply('AAAA a.example.net', v4(60, '2606:4700::1'))
  timers.advance(5_000)
  look('a.example.net')
  expect(asked).toHaveLength(4)
})

it('asks once for all who wait for a name', async () => {
  const { asked, reply, look } = stage()
  const results = Array.from({ length: 50 }, () => look('a.example.net'))
  expect(asked).toHaveLength(2)
  await reply('A a.example.net', v4(60, '8.8.8.8'))
  await reply('AAAA a.example.net', 'ENODATA')
  for (const result of results) expect(result).toEqual({ addresses: ['8.8.8.8'] })
})

it('remembers a failure for five seconds', async () => {
  const { timers, asked, reply, look } = stage()
  const result = look('gone.example.net')
  await reply('A gone.example.net', 'ENOTFOUND')
  await reply('AAAA gone.example.net', 'ENOTFOUND')
  expect(result).toEqual({ error: 'ENOTFOUND' })
  timers.advance(4_999)
  const again = look('gone.example.net')
  await turns()
  expect(again).toEqual({ error: 'ENOTFOUND' })
  expect(asked).toHaveLength(2)
  timers.advance(1)
  look('gone.example.net')
  expect(asked).toHaveLength(4)
})

it('says of both failures the one that is not about one family', async () => {
  const { reply, look } = stage()
  const result = look('a.example.net')
  await reply('A a.example.net', 'ENODATA')
  await reply('AAAA a.example.net', 'ESERVFAIL')
  expect(result).toEqual({ error: 'ESERVFAIL' })
})

it('gives up at its limit, and keeps what comes too late for the next one', async () => {
  const { timers, asked, reply, look } = stage()
  const result = look('slow.example.net')
  timers.advance(3_999)
  expect(result).toEqual({})
  timers.advance(1)
  expect(result).toEqual({ error: 'ETIMEOUT' })
  expect(timers.armed).toBe(0)
  await reply('A slow.example.net', v4(60, '8.8.8.8'))
  await reply('AAAA slow.example.net', 'ENODATA')
  const again = look('slow.example.net')
  await turns()
  expect(again).toEqual({ addresses: ['8.8.8.8'] })
  expect(asked).toHaveLength(2)
})

it('knows the hosts file before all else', async () => {
  const { asked, look } = stage()
  const result = look('Printer')
  expect(result).toEqual({})
  await turns()
  expect(result).toEqual({ addresses: ['10.0.0.9'] })
  expect(asked).toEqual([])
})

it('asks the system only about names that do not exist, and only where it may', async () => {
  const open = stage({ askSystem: true })
  const inside = open.look('web')
  await open.reply('A web', 'ENOTFOUND')
  await open.reply('AAAA web', 'ENOTFOUND')
  await turns()
  expect(inside).toEqual({ addresses: ['10.0.0.7'] })
  const broken = open.look('down.example.net')
  await open.reply('A down.example.net', 'ESERVFAIL')
  await open.reply('AAAA down.example.net', 'ESERVFAIL')
  expect(broken).toEqual({ error: 'ESERVFAIL' })
  expect(open.system).toEqual(['web'])

  const shut = stage()
  const outside = shut.look('web')
  await shut.reply('A web', 'ENOTFOUND')
  await shut.reply('AAAA web', 'ENOTFOUND')
  expect(outside).toEqual({ error: 'ENOTFOUND' })
  expect(shut.system).toEqual([])
})

it('looks for other name servers when the ones it knows are in trouble for long', async () => {
  const { timers, clients, reply, look } = stage()
  const fail = async (code: string) => {
    look('a.example.net')
    await reply('A a.example.net', code)
    await reply('AAAA a.example.net', code)
    timers.advance(20_000)
  }
  await fail('ECONNREFUSED')
  await fail('ENOTFOUND')
  expect(clients()).toBe(1)
  await fail('ECONNREFUSED')
  await fail('ECONNREFUSED')
  expect(clients()).toBe(2)
})

const addresses = (count: number) =>
  Array.from({ length: count }, (_, i) => `127.0.${Math.floor(i / 250)}.${i % 250}`)

it('keeps answers of 32 addresses, and asks again for longer ones: memory has to be bounded', async () => {
  const { timers, asked, reply, look } = stage()
  for (const [name, count, questions] of [
    ['32.example.net', 32, 2],
    ['33.example.net', 33, 4],
    ['256.example.net', 256, 4],
  ] as const) {
    const before = asked.length
    const results = [look(name), look(name)]
    await reply(`A ${name}`, v4(60, ...addresses(count)))
    await reply(`AAAA ${name}`, 'ENODATA')
    // All of them, and to all who wait: one question for both.
    expect(results).toEqual([{ addresses: addresses(count) }, { addresses: addresses(count) }])
    expect(asked).toHaveLength(before + 2)
    timers.advance(1)
    look(name)
    await turns()
    expect(asked, name).toHaveLength(before + questions)
  }
})

it('refuses more than 256 addresses of both families together, and remembers that', async () => {
  const { timers, asked, reply, look } = stage()
  const result = look('many.example.net')
  await reply('A many.example.net', v4(60, ...addresses(256)))
  await reply('AAAA many.example.net', v4(60, '2606:4700::1'))
  expect(result).toEqual({ error: 'TOO_MANY_ADDRESSES' })
  timers.advance(4_999)
  const again = look('many.example.net')
  await turns()
  expect(again).toEqual({ error: 'TOO_MANY_ADDRESSES' })
  expect(asked).toHaveLength(2)
})

it('refuses as many from the system, and from an answer that comes too late', async () => {
  const found = addresses(257).map((address) => ({ address, family: 4 }))
  const system: ResolverOptions['system'] = {
    lookup(_, done) {
      queueMicrotask(() => done(null, found))
      return () => {}
    },
  }
  const inside = stage({ askSystem: true, system })
  const result = inside.look('web')
  await inside.reply('A web', 'ENOTFOUND')
  await inside.reply('AAAA web', 'ENOTFOUND')
  expect(result).toEqual({ error: 'TOO_MANY_ADDRESSES' })

  const late = stage()
  late.look('slow.example.net')
  late.timers.advance(4_000)
  await late.reply('A slow.example.net', v4(60, ...addresses(257)))
  await late.reply('AAAA slow.example.net', 'ENODATA')
  late.timers.advance(5_000)
  late.look('slow.example.net')
  expect(late.asked).toHaveLength(4)
})

it('holds ten thousand names at the most', async () => {
  const { asked, reply, look } = stage()
  for (let i = 0; i <= 10_000; i += 1) {
    look(`n${i}.example.net`)
    void reply(`A n${i}.example.net`, v4(60, '8.8.8.8'))
    void reply(`AAAA n${i}.example.net`, 'ENODATA')
  }
  await turns()
  look('n10000.example.net')
  expect(asked).toHaveLength(20_002)
  look('n0.example.net')
  expect(asked).toHaveLength(20_004)
})
