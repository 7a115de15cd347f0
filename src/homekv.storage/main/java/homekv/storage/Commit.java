package homekv.storage;

/**
 * What one command changed: an element of {@link History}. Immutable.
 *
 * <p>Of each change it has the version that was made. No key stands twice (S5). Most commands change one key: there the
 * version itself is the commit, and the history needs no other object.
 */
abstract sealed class Commit permits Version, Commit.Many {
    /** A commit of at least one change: the versions that were made, which are not written to any more. */
    static Commit of(Version[] versions) {
        return versions.length == 1 ? versions[0] : new Many(versions);
    }

    /** How many changes, at least one. */
    final int size() {
        return this instanceof Many many ? many.versions.length : 1;
    }

    /** The version that the change made. */
    final Version version(int index) {
        return this instanceof Many many ? many.versions[index] : (Version) this;
    }

    static final class Many extends Commit {
        private final Version[] versions;

        private Many(Version[] versions) {
            this.versions = versions;
        }
    }
}
