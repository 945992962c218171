/** What the library warns of, as lines for the person in front of the screen. */
import type { Logger } from '../index.ts'

export function noticesOnly(tell: (notice: string) => void): Logger {
  const notice = (fields: Record<string, unknown>, message: string): void => {
    // A short retry schedule is meant here, and shown.
    if ('schedule_s' in fields) return
    tell(`note: ${message}${'error' in fields ? `: ${String(fields.error)}` : ''}`)
  }
  return { debug() {}, info() {}, warn: notice, error: notice }
}
