/**
 * What a service that nobody asks anything leaves behind when it cannot start: an exit code. With 0
 * a supervisor (`Restart=on-failure`, a job of Kubernetes) would take the process for done.
 *
 * Not an unhandled rejection, because that ends the process at once, and with it whatever else the
 * app does. So nothing happens before the process ends by itself, and nothing then when the app has
 * said how it ends or has learnt of the failure by any call.
 */
export function failAtExit(isAsked: () => boolean): void {
  process.once('exit', () => {
    if (!isAsked() && process.exitCode === undefined) process.exitCode = 1
  })
}
