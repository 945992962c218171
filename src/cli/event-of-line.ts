/** From a line of NDJSON to an event: fills in what may be missing and says so. */
import { createHash, randomBytes } from 'node:crypto'
import type { WebhookEvent } from '../index.ts'
import type { Line } from './ndjson.ts'

type ReadLine = Extract<Line, { value: unknown }>

export interface LineEvent {
  readonly event: WebhookEvent
  /** Names of the fields the line lacked. */
  readonly filledIn: readonly ('id' | 'timestamp')[]
}

/** Makes the id of an event whose line has none. */
export type MakeId = (line: ReadLine) => string

/** For a stream, which is read only once. */
export const randomId: MakeId = () => `evt_${randomBytes(9).toString('base64url')}`

/**
 * For a file: reading it again must not send its events again, so the id follows from the line.
 * The number is part of it because two equal lines are two events.
 */
export const idOfContent: MakeId = ({ number, text }) =>
  `line_${createHash('sha256').update(`${number}\n${text}`).digest('hex').slice(0, 24)}`

export function eventOfLine(line: ReadLine, makeId: MakeId, now: () => Date): LineEvent {
  const { value } = line
  const filledIn: ('id' | 'timestamp')[] = []
  const filled: Record<string, unknown> = { ...value }
  if (value.id === undefined) {
    filled.id = makeId(line)
    filledIn.push('id')
  }
  if (value.timestamp === undefined) {
    filled.timestamp = now()
    filledIn.push('timestamp')
  }
  // What is still missing or wrong is found by the library, which says it better.
  return { event: filled as unknown as WebhookEvent, filledIn }
}
