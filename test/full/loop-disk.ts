/**
 * A disk of one's own: a file system in a file, mounted over a loop device, that can lose its power.
 * The cut shuts the file system down without writing its log, so that whatever was not synced is
 * gone, as on a machine whose plug is pulled. (A device's own cache is not part of it.)
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`. Node cannot make an ioctl. */
const shutDown = `
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))
`

export class LoopDisk implements Disposable {
  readonly mountPoint: string
  readonly #folder: string
  readonly #image: string

  /** @throws when this machine does not allow it */
  constructor(megabytes: number) {
    this.#folder = mkdtempSync(path.join(tmpdir(), 'kmsg-disk-'))
    this.#image = path.join(this.#folder, 'image')
    this.mountPoint = path.join(this.#folder, 'mounted')
    try {
      run('truncate', '-s', `${megabytes}M`, this.#image)
      run('mkfs.ext4', '-q', '-F', this.#image)
      run('mkdir', this.mountPoint)
      this.#mount()
    } catch (error) {
      rmSync(this.#folder, { recursive: true, force: true })
      throw error
    }
  }

  /** From here on nothing reaches the disk any more. */
  cut(): void {
    run('python3', '-c', shutDown, this.mountPoint)
  }

  /** Power is back: the file system recovers from its log. */
  restore(): void {
    run('umount', this.mountPoint)
    this.#mount()
  }

  [Symbol.dispose](): void {
    run('umount', '-l', this.mountPoint)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #mount(): void {
    run('mount', '-o', 'loop', this.#image, this.mountPoint)
  }
}

/** Why this machine cannot do it, or null. */
export function whyNoLoopDisk(): string | null {
  if (process.platform !== 'linux') return 'needs Linux'
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    using disk = new LoopDisk(8)
    disk.cut()
    disk.restore()
    return null
  } catch (error) {
    return `no loop-mounted ext4 here: ${String((error as Error).message).split('\n')[0]}`
  }
}

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
