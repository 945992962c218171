import { createEncryptionKey } from '@k-msg/webhook'

export const newestKey = createEncryptionKey('k2')
export const olderKey = createEncryptionKey('k1')
