// What postgres() takes, and what the service says when it begins.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { postgres } from '@k-msg/webhook/postgres'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { sqlState, storageError, troubleOf } from '../../src/storage/postgres/errors.ts'
import { testHost } from '../storage/fixtures.ts'
import { freshSchema, type TestSchema } from './schemas.ts'

describe('what postgres() is given', () => {
  const url = 'postgres://user:s3cret@host/database'

  test.each([[''], ['mysql://host/db'], [[]], [[url, 'x']], [[url, 1]], [{}], [null]])(
    '%j is refused, without its password',
    (target) => {
      const wrong = () => postgres(target as never)
      expect(wrong).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
      expect(wrong).not.toThrow('s3cret')
    },
  )

  test('one URL, a list of them, or a pool', () => {
    const pool = { connect: () => {}, on: () => {} }
    for (const target of [url, [url], [url, url], pool]) postgres(target as never)
  })
})

describe('at the start', () => {
  let schema: TestSchema
  beforeEach(() => {
    schema = freshSchema()
  })
  afterEach(() => schema.drop())

  test('a server on which a commit is not synced is warned of, once', async () => {
    const unsafe = new URL(schema.url)
    unsafe.searchParams.set('options', '-c synchronous_commit=off')
    const host = testHost()
    const store = await postgres(unsafe.href, { schema: schema.name }).open(host)
    await store.close()
    const warnings = host.logged.filter(({ level }) => level === 'warn')
    expect(warnings).toMatchObject([{ fields: { settings: 'synchronous_commit' } }])
  })

  test('a safe server is not', async () => {
    const host = testHost()
    const store = await postgres(schema.url, { schema: schema.name }).open(host)
    await store.close()
    expect(host.logged.filter(({ level }) => level === 'warn')).toEqual([])
  })

  test('servers that refuse or say nothing are passed over', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as { port: number }
    const urls = ['postgres://127.0.0.1:1/x', `postgres://127.0.0.1:${port}/x`, schema.url]
    const store = await postgres(urls, { schema: schema.name }).open(testHost())
    expect(store.description).toMatch(/^PostgreSQL/)
    await store.close()
    silent.close()
  })

  test('without any server, it says so and where it looked', async () => {
    const urls = ['postgres://user:secret@127.0.0.1:1/x', 'postgres://127.0.0.1:2/x']
    const opening = postgres(urls).open(testHost())
    await expect(opening).rejects.toMatchObject({
      code: 'STORAGE_UNAVAILABLE',
      message: expect.stringMatching(/127\.0\.0\.1:1.*127\.0\.0\.1:2/),
    })
    await expect(opening).rejects.not.toThrow('secret')
  })

  test('a wrong database is not asked for again and again', async () => {
    const nowhere = new URL(inject('databaseUrl'))
    nowhere.pathname = '/no_such_database'
    const startMs = performance.now()
    await expect(postgres(nowhere.href).open(testHost())).rejects.toMatchObject({
      code: 'STORAGE_UNAVAILABLE',
    })
    expect(performance.now() - startMs).toBeLessThan(4_000)
  })
})

describe('what an error means', () => {
  const said = (code: string) =>
    Object.assign(new Error('as the server says'), { code, severity: 'ERROR' })

  test.each([
    ['40001', 'undone', 'STORAGE_UNAVAILABLE'],
    ['40P01', 'undone', 'STORAGE_UNAVAILABLE'],
    ['55P03', 'undone', 'STORAGE_UNAVAILABLE'],
    ['57014', 'undone', 'STORAGE_UNAVAILABLE'],
    ['26000', 'unprepared', 'STORAGE_UNAVAILABLE'],
    ['42P05', 'unprepared', 'STORAGE_UNAVAILABLE'],
    ['08006', 'lost', 'STORAGE_UNAVAILABLE'],
    ['25006', 'lost', 'STORAGE_UNAVAILABLE'],
    ['53300', 'lost', 'STORAGE_UNAVAILABLE'],
    ['57P01', 'lost', 'STORAGE_UNAVAILABLE'],
    ['57P03', 'lost', 'STORAGE_UNAVAILABLE'],
    ['28P01', 'refused', 'STORAGE_UNAVAILABLE'],
    ['42501', 'refused', 'STORAGE_UNAVAILABLE'],
    ['53100', 'refused', 'STORAGE_FULL'],
    ['XX001', 'refused', 'STORAGE_CORRUPT'],
    ['22021', 'data', undefined],
    ['23514', 'data', undefined],
    ['54000', 'data', undefined],
  ])('%s: %s', (code, trouble, storageCode) => {
    expect(troubleOf(said(code))).toBe(trouble)
    expect((storageError(said(code), 'here') as { code?: string }).code).toBe(storageCode)
  })

  test('a row that met a day as it was made is written again, where it belongs', () => {
    const refused = (constraint?: string) =>
      Object.assign(said('23514'), { table: 'event_default', constraint })
    expect(troubleOf(refused())).toBe('undone')
    expect(troubleOf(refused('event_matched_check'))).toBe('data')
  })

  test('a connection that breaks has no SQLSTATE, whatever its letters', () => {
    const broken = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })
    expect(sqlState(broken)).toBeNull()
    expect(troubleOf(broken)).toBe('lost')
  })
})
