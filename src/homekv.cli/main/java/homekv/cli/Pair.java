package homekv.cli;

import homekv.storage.Bytes;

/**
 * A line of an export. Immutable.
 *
 * @param lease the lease that the key was attached to; 0: none
 */
record Pair(Bytes key, Bytes value, long lease) {}
