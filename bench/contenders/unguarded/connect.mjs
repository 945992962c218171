// undici's own connector with the settings of ours: no vetting, no DNS of our own, nothing checked.

import { buildConnector } from 'undici'

let used = false

export const wasUsed = () => used

export function createConnect({ connectTimeoutMs, setTimer }) {
  const connect = buildConnector({
    timeout: 0,
    minVersion: 'TLSv1.2',
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: 250,
  })
  return (options, _, callback) => {
    used = true
    const socket = connect(options, (error, opened) => {
      cancelTimer()
      callback(error, opened)
    })
    const cancelTimer = setTimer(() => socket.destroy(new Error('timed out')), connectTimeoutMs)
    return { isResolving: false, giveUp: (error) => socket.destroy(error) }
  }
}
