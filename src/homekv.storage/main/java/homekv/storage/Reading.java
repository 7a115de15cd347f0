package homekv.storage;

import java.util.List;

/**
 * What a read of several keys found, all in one revision.
 *
 * @param revision the revision that was read
 * @param entries an entry for every key that was asked for, in the order asked, null where the key is absent
 */
public record Reading(long revision, List<Entry> entries) {}
