/**
 * The code of every thread. One owns the connection that writes: it takes calls one by one, in the
 * order they were made, and answers each; `close` is the last. The others work beside it on
 * connections of their own: checkpoints, and single long reads. Knows what the verbs are, not what
 * they do.
 */
import { parentPort, Worker, workerData } from 'node:worker_threads'
import { audit } from './audit.ts'
import { backup } from './backup.ts'
import { Checkpoints, serveCheckpoints } from './checkpoint.ts'
import { Connection } from './connection.ts'
import { type Driver, loadDriver } from './driver.ts'
import { type ErrorOnWire, errorToWire, storageError } from './errors.ts'
import { findEverywhere } from './find.ts'
import { Door } from './leaving.ts'
import type { Answer, Call, Job, ThreadData } from './protocol.ts'
import { requireSchema } from './schema.ts'
import { openSession, type Session } from './session.ts'
import { createVerbs, type Verbs } from './verbs.ts'

const port = parentPort
if (port === null) throw new Error('Expected to be started as a thread of the SQLite store.')
const { location, loadFrom, code, door: shared, job } = workerData as ThreadData
const door = new Door(shared)
const isInMemory = location === ':memory:'

function say(answer: Answer): void {
  port?.postMessage(answer)
}

function start(): void {
  const driver = loadDriver(loadFrom)
  if (job.kind === 'serve') serve(driver, job)
  else if (job.kind === 'checkpoint') {
    serveCheckpoints(new Connection(driver.open(location)), location, door)
  } else say([0, readBeside(driver, job), null])
}

function serve(driver: Driver, { nowMs, resume }: Job & { kind: 'serve' }): void {
  const session = openSession(driver.open(location), { location, nowMs, resume })
  takeCalls(session, isInMemory ? null : checkpointsOf(session))
  const description = `sqlite ${driver.version} (${driver.name})`
  say([0, { owner: session.owner, description }, null])
}

function checkpointsOf({ connection }: Session): Checkpoints {
  const data: ThreadData = { location, loadFrom, code, door: shared, job: { kind: 'checkpoint' } }
  const start = () =>
    new Worker(new URL(code), { workerData: data, name: 'kmsg-sqlite-checkpoint' })
  return new Checkpoints(connection, start, (error) => say([0, null, failed(error)]))
}

function takeCalls(session: Session, checkpoints: Checkpoints | null): void {
  let callId = 0
  let restScheduled = false
  let isClosing = false
  const verbs = createVerbs(session, () => callId)
  const rest = () => {
    restScheduled = false
    // Closing empties the log, and what this would look at can be closed already.
    if (checkpoints !== null && !isClosing) door.pass(() => lookAfterLog(session, checkpoints))
  }
  const pass = (call: Call) => {
    const said = door.pass(() => answer(verbs, call))
    // Outside of the door: whoever has the answer to `close` may end this thread.
    if (said !== null) say(said)
  }
  const close = async (call: Call) => {
    isClosing = true
    await checkpoints?.close()
    pass(call)
    port?.close()
  }
  port?.on('message', (call: Call) => {
    callId = call[0]
    if (call[1] === 'close') return close(call)
    pass(call)
    // Runs once the messages that are here already have been answered.
    if (!restScheduled) setImmediate(rest)
    restScheduled = true
  })
}

function lookAfterLog(session: Session, checkpoints: Checkpoints): void {
  try {
    if (session.mustScrubLog) session.mustScrubLog = !checkpoints.scrub()
  } catch (error) {
    say([0, null, failed(errorToWire(storageError(error, location)))])
  }
  checkpoints.look()
}

/** Once the disk has failed nothing is asked of it any more: what it says cannot be trusted. */
let diskFailure: ErrorOnWire | null = null

function answer(verbs: Verbs, [id, name, args]: Call): Answer {
  if (diskFailure && name !== 'close') return [id, null, diskFailure]
  try {
    const verb = verbs[name as keyof Verbs] as (...args: readonly unknown[]) => unknown
    return [id, verb(...args), null]
  } catch (error) {
    return [id, null, failed(errorToWire(storageError(error, location)))]
  }
}

function failed(error: ErrorOnWire): ErrorOnWire {
  if (error.code === 'STORAGE_IO') diskFailure = error
  return error
}

function readBeside(driver: Driver, job: Job & { kind: 'audit' | 'backup' | 'find' }): unknown {
  const connection = new Connection(driver.open(location, { readOnly: true }))
  try {
    connection.database.exec('pragma busy_timeout = 5000')
    requireSchema(connection, location)
    if (job.kind === 'find') return findEverywhere(connection, job.id)
    return job.kind === 'audit' ? audit(connection) : backup(connection, job.target)
  } finally {
    connection.close()
  }
}

try {
  door.pass(start)
} catch (error) {
  const onWire = errorToWire(storageError(error, location))
  // The writer hears what a checkpoint met as it is; a store hears an answer.
  port.postMessage(job.kind === 'checkpoint' ? onWire : ([0, null, onWire] satisfies Answer))
  port.close()
}
