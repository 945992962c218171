import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import path from 'node:path'
import { WebhookEventType } from '@k-msg/webhook'
import { describe, expect, it } from 'vitest'
import { emptyFolder, type Finished, ndjson, run, start } from './command.ts'

interface Line {
  event: string
  id: string
  endpoint: string
  attempt: number
  status: string
  next: string
  signature: string
}

/** The lines of the table, taken apart at its columns. */
function linesOf({ stdout }: Finished): Line[] {
  return stdout.split('\n').flatMap((line) => {
    const [event = '', id = '', endpoint = '', attempt = '', status = '', , next = '', signature] =
      line.trim().split(/ {2,}/)
    if (signature === undefined || !/^\d+$/.test(attempt)) return []
    return [{ event, id, endpoint, attempt: Number(attempt), status, next, signature }]
  })
}

/** Nobody listens there. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

const allTypes = Object.values(WebhookEventType).sort()

async function runDev(input = '', data?: string): Promise<Finished> {
  const file = data ?? path.join(await emptyFolder(), 'dev.db')
  return run(['dev', '--data', file, '--port', '0', '--speed', '2000'], { input })
}

describe('kmsg-webhook dev, without a terminal', () => {
  it('shows the 20 types, retries, batches and valid signatures, and ends by itself', async () => {
    const finished = await runDev()
    expect(finished.stderr).toBe('')
    expect(finished.code).toBe(0)
    const lines = linesOf(finished)
    const of = (endpoint: string): Line[] => lines.filter((line) => line.endpoint === endpoint)

    expect(
      of('healthy')
        .filter(({ status, next }) => status === '200' && next === 'delivered')
        .map(({ event }) => event)
        .sort(),
    ).toEqual(allTypes)
    for (const [attempt, status] of [
      [1, '503'],
      [2, '503'],
      [3, '200'],
    ] as const) {
      const those = of('flaky').filter((line) => line.attempt === attempt)
      expect(those.map(({ event }) => event).sort()).toEqual(allTypes)
      expect(new Set(those.map((line) => line.status))).toEqual(new Set([status]))
    }
    expect(of('filtered').length).toBeGreaterThan(0)
    expect(of('filtered').length).toBeLessThan(20)
    expect(of('batched').map(({ event }) => event)).toEqual(['batch of 10', 'batch of 10'])
    expect(new Set(lines.map(({ signature }) => signature))).toEqual(new Set(['valid']))
    expect(finished.stdout).toMatch(/^healthy +20 +0 +100 %/m)
    expect(finished.stdout).toMatch(/^flaky +20 +0 +100 % +60 /m)
    expect(finished.stdout).toContain('Everything is settled.')
    expect(finished.stdout).not.toContain('\x1b')
  })

  it('speaks Korean, from its first line to its last', async () => {
    const file = path.join(await emptyFolder(), 'dev.db')
    const args = ['dev', '--data', file, '--port', '0', '--speed', '2000', '--lang', 'ko']
    const { stdout, code } = await run(args, { input: '{"type":"a.b","data":1}\nx\n' })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^a\.b evt_\S+: id, timestamp 자동 입력$/m)
    expect(stdout).toMatch(/^2번째 줄: /m)
    expect(stdout.trim().split('\n').at(-1)).toBe('모든 전송이 끝났습니다. 잘못된 줄 1개.')
    const introduction = stdout.split('\n').slice(0, 7)
    for (const line of introduction) expect(line).toMatch(/[가-힣]{2}.*[가-힣]{2}/)
  })

  it('listens on the port it is given, and retries as fast as it is told', async () => {
    const data = path.join(await emptyFolder(), 'dev.db')
    const port = await freePort()
    const finished = await run(['dev', '--data', data, '--port', String(port), '--speed', '10000'])
    expect(finished.code).toBe(0)
    expect(finished.stdout).toContain(`127.0.0.1:${port}`)
    const second = linesOf(finished).filter((one) => one.endpoint === 'flaky' && one.attempt === 2)
    expect(second).toHaveLength(20)
    // 5 minutes by the schedule, ten thousand times as fast.
    for (const { next } of second) expect(next).toMatch(/^(?:now|in (?:<1|[12]?\d|30) ms)$/)
  })

  it('sends what arrives on standard input, and a bad line stops no other', async () => {
    const own = { id: 'mine_1', timestamp: '2026-01-31T09:00:00Z', data: { text: '안녕하세요' } }
    const finished = await runDev(
      [
        ndjson([{ ...own, type: 'message.sent' }]).trim(),
        'not json',
        '{"type":"order.placed","data":{}}',
        '{"id":"has.dot","type":"order.placed","data":{}}',
        ndjson([{ ...own, id: 'mine_2', type: 'order.paid' }]).trim(),
      ].join('\n'),
    )
    expect(finished.code).toBe(0)
    expect(finished.stdout).toContain('line 2: Expected one event as JSON')
    expect(finished.stdout).toMatch(/line 4: Expected the event's `id`/)
    expect(finished.stdout).toMatch(/^order\.placed evt_\S+: id and timestamp filled in$/m)
    expect(finished.stdout).toContain('2 bad lines.')
    const healthy = linesOf(finished).filter(({ endpoint }) => endpoint === 'healthy')
    expect(healthy.map(({ id }) => id)).toEqual(expect.arrayContaining(['mine_1', 'mine_2']))
    expect(healthy).toHaveLength(23)
  })

  it('goes on with what an interrupted run left', async () => {
    const data = path.join(await emptyFolder(), 'dev.db')
    // The second retry of the flaky endpoint comes after 5 minutes: it cannot have been made.
    const first = start(['dev', '--data', data, '--port', '0', '--speed', '1'])
    first.process.stdout?.on('data', (text: Buffer) => {
      if (/ flaky +1 /.test(String(text))) first.process.kill('SIGINT')
    })
    const interrupted = await first.finished
    expect(interrupted.code).toBe(0)
    expect(interrupted.stdout).toMatch(/waiting; the next start goes on with them/)

    const second = await runDev('', data)
    expect(second.stdout).toMatch(/Goes on with \d+ deliver(y|ies) of an earlier run/)
    expect(second.stdout).toMatch(/^flaky +40 +0 +100 %/m)
    expect(second.stdout).toMatch(/^healthy +40 +0 +100 %/m)
    expect(second.code).toBe(0)
  })

  it('speaks Korean where the environment does, in columns that line up', async () => {
    const data = path.join(await emptyFolder(), 'dev.db')
    const finished = await run(['dev', '--data', data, '--port', '0', '--speed', '2000'], {
      env: { LANG: 'ko_KR.UTF-8' },
    })
    expect(finished.stdout).toMatch(/^이벤트 +이벤트 ID +엔드포인트 +시도/m)
    expect(finished.stdout).toContain('배치 10건')
    expect(finished.stdout).toContain('모든 전송이 끝났습니다.')
  })

  it('refuses the data file of somebody else', async () => {
    const folder = await emptyFolder()
    const data = path.join(folder, 'send.db')
    await run(['send', '-', '--to', 'http://127.0.0.1:9/', '--allow-private', '--data', data])
    const finished = await runDev('', data)
    expect(finished.code).toBe(2)
    expect(finished.stderr).toMatch(/^error: Expected the data file of a demonstration/)
  })

  it('says when the data file is in use, in one sentence', async () => {
    const data = path.join(await emptyFolder(), 'dev.db')
    const first = start(['dev', '--data', data, '--port', '0', '--speed', '1'])
    const second = await new Promise<Finished>((resolve) => {
      first.process.stdout?.once('data', () => resolve(runDev('', data)))
    })
    first.process.kill('SIGTERM')
    expect(second.code).toBe(1)
    expect(second.stderr).toMatch(/^error: .*\[STORAGE_LOCKED\]\n$/)
    expect((await first.finished).code).toBe(0)
  })
})
