import { EventEmitter } from 'node:events'
import type { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { Checkpoints } from '../../src/storage/sqlite/checkpoint.ts'
import type { Connection } from '../../src/storage/sqlite/connection.ts'
import type { ErrorOnWire } from '../../src/storage/sqlite/errors.ts'

/** A writer whose log is as long as is said, and a thread that answers when it is told to. */
function atPages(pages: number) {
  const log = { log: pages, checkpointed: 0 }
  const asked: unknown[] = []
  const said: string[] = []
  const thread = Object.assign(new EventEmitter(), {
    postMessage: (message: unknown) => asked.push(message),
  })
  let started = 0
  const start = () => {
    started += 1
    return thread as unknown as Worker
  }
  const begunAnew: number[] = []
  const waiting = () => {
    begunAnew.push(log.log)
    return { busy: 0 }
  }
  const connection = { get: () => log, waiting } as unknown as Connection
  const checkpoints = new Checkpoints(connection, start, ({ message }) => said.push(message))
  return { checkpoints, log, asked, said, thread, begunAnew, started: () => started }
}

const full: ErrorOnWire = { code: 'STORAGE_FULL', message: 'no room', stack: undefined }

test('a log that is not worth a checkpoint starts no thread, and closing waits for none', async () => {
  const { checkpoints, asked, started } = atPages(999)
  checkpoints.look()
  expect(started()).toBe(0)
  await checkpoints.close()
  expect(asked).toEqual([])
})

test('one thread makes all checkpoints, one at a time, and is let end', async () => {
  const { checkpoints, asked, thread, started } = atPages(1_000)
  checkpoints.look()
  checkpoints.look()
  expect(asked).toEqual(['checkpoint'])
  thread.emit('message', null)
  checkpoints.look()
  expect(asked).toEqual(['checkpoint', 'checkpoint'])
  expect(started()).toBe(1)
  const closed = checkpoints.close()
  expect(asked.at(-1)).toBe('close')
  thread.emit('exit', 0)
  await closed
})

test('what keeps failing is said once, and once more after it went well', () => {
  const { checkpoints, said, thread } = atPages(1_000)
  const answers = [full, full, full, null, full]
  for (const answer of answers) {
    checkpoints.look()
    thread.emit('message', answer)
  }
  expect(said).toEqual(['no room', 'no room'])
})

test('a thread that ended by itself leaves the log to the writer', () => {
  const { checkpoints, log, asked, said, thread, begunAnew, started } = atPages(1_000)
  checkpoints.look()
  thread.emit('error', new Error('out of memory'))
  checkpoints.look()
  expect({ said, asked, started: started() }).toEqual({
    said: ['out of memory'],
    asked: ['checkpoint'],
    started: 1,
  })
  log.log = 16_384
  checkpoints.look()
  expect(begunAnew).toEqual([16_384])
})
