export * from '@k-msg/webhook/testing'
