/**
 * The code of both kinds of thread. One owns the connection that writes: it takes calls one by one,
 * in the order they were made, and answers each; `close` is the last. The other does one long read
 * beside it and ends. Knows what the verbs are, not what they do.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { audit } from './audit.ts'
import { backup } from './backup.ts'
import { checkpointIfWorthwhile } from './checkpoint.ts'
import { Connection } from './connection.ts'
import { type Driver, loadDriver } from './driver.ts'
import { errorToWire, storageError } from './errors.ts'
import type { Answer, Call, Job, ThreadData } from './protocol.ts'
import { requireSchema } from './schema.ts'
import { openSession, type Session } from './session.ts'
import { createVerbs, type Verbs } from './verbs.ts'

const port = parentPort
if (port === null) throw new Error('Expected to be started as a thread of the SQLite store.')
const { location, loadFrom, job } = workerData as ThreadData

function say(answer: Answer): void {
  port?.postMessage(answer)
}

function start(): void {
  const driver = loadDriver(loadFrom)
  if (job.kind === 'serve') serve(driver, job)
  else say([0, readBeside(driver, job), null])
}

function serve(driver: Driver, { nowMs, resume }: Job & { kind: 'serve' }): void {
  const session = openSession(driver.open(location), { location, nowMs, resume })
  takeCalls(session)
  const description = `sqlite ${driver.version} (${driver.name})`
  say([0, { owner: session.owner, description }, null])
}

function takeCalls(session: Session): void {
  let callId = 0
  let restScheduled = false
  const verbs = createVerbs(session, () => callId)
  const rest = () => {
    restScheduled = false
    checkpointIfWorthwhile(session.connection)
  }
  port?.on('message', (call: Call) => {
    callId = call[0]
    say(answer(verbs, call))
    if (call[1] === 'close') port?.close()
    else if (!restScheduled) {
      // Runs once the messages that are here already have been answered.
      restScheduled = true
      setImmediate(rest)
    }
  })
}

function answer(verbs: Verbs, [id, name, args]: Call): Answer {
  try {
    const verb = verbs[name as keyof Verbs] as (...args: readonly unknown[]) => unknown
    return [id, verb(...args), null]
  } catch (error) {
    return [id, null, errorToWire(storageError(error, location))]
  }
}

function readBeside(driver: Driver, job: Job & { kind: 'audit' | 'backup' }): unknown {
  const connection = new Connection(driver.open(location, { readOnly: true }))
  try {
    connection.database.exec('pragma busy_timeout = 5000')
    requireSchema(connection, location)
    return job.kind === 'audit' ? audit(connection) : backup(connection, job.target)
  } finally {
    connection.close()
  }
}

try {
  start()
} catch (error) {
  say([0, null, errorToWire(storageError(error, location))])
  port.close()
}
