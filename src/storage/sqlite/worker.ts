/**
 * The thread that owns the connection. Takes calls one by one, in the order they were made, and
 * answers each; knows what the verbs are, not what they do. `close` is the last call in the queue.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { checkpointIfWorthwhile } from './checkpoint.ts'
import { loadDriver } from './driver.ts'
import { errorToWire, storageError } from './errors.ts'
import type { Answer, Call, ThreadData } from './protocol.ts'
import { openSession, type Session } from './session.ts'
import { createVerbs, type Verbs } from './verbs.ts'

const port = parentPort
if (port === null) throw new Error('Expected to be started as a thread of the SQLite store.')
const data = workerData as ThreadData

function say(answer: Answer): void {
  port?.postMessage(answer)
}

function start(): void {
  const driver = loadDriver(data.loadFrom)
  const session = openSession(driver.open(data.location), data)
  serve(session)
  const description = `sqlite ${driver.version} (${driver.name})`
  say([0, { owner: session.owner, description }, null])
}

function serve(session: Session): void {
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
    return [id, null, errorToWire(storageError(error, data.location))]
  }
}

try {
  start()
} catch (error) {
  say([0, null, errorToWire(storageError(error, data.location))])
  port.close()
}
