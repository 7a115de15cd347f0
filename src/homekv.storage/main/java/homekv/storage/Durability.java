package homekv.storage;

/** What the commands that a {@link CommandLog} has answered survive. */
public enum Durability {
    /** Nothing: they are lost with the process. */
    MEMORY,

    /** A crash of the process. They have been handed to the operating system, which writes them when it likes. */
    WRITTEN,

    /** A crash of the process; and, but for those of the last interval, a crash of the kernel and a loss of power. */
    INTERVAL,

    /** A crash of the process or of the kernel, and a loss of power: they have been forced to the disk. */
    FORCED
}
