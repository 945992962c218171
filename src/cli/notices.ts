/** What the library warns of, as lines for the person in front of the screen. */
import type { Logger } from '../index.ts'
import { sentenceInFlags } from './flags.ts'

/** @param known fields of notices that tell this person nothing new */
export function noticesOnly(
  tell: (notice: string) => void,
  // A short retry schedule is meant here, and shown.
  known: readonly string[] = ['schedule_s'],
): Logger {
  // Each command awaits `ready()` and says itself what that rejects with.
  const silent = [...known, 'ready']
  const notice = (fields: Record<string, unknown>, message: string): void => {
    if (silent.some((name) => name in fields)) return
    tell(`note: ${sentenceInFlags(message, '--data')}${detail(fields, message)}`)
  }
  return { debug() {}, info() {}, warn: notice, error: notice }
}

/** A sentence says all but an error; the name of a fact, such as `endpoint.failing`, says nothing alone. */
function detail(fields: Record<string, unknown>, message: string): string {
  if ('error' in fields) return `: ${String(fields.error)}`
  if (message.includes(' ')) return ''
  const given = Object.entries(fields).filter(([, value]) => (value ?? null) !== null)
  return given.map(([name, value]) => ` ${name}=${String(value)}`).join('')
}
