/** The two programs, homekv and hkvctl: arguments, printing and exit codes. */
module homekv.cli {
    requires homekv.rpc;
    requires io.netty.common; // Is told where to log.
    requires java.logging; // What gRPC and Netty log goes to standard error in our format.
    requires jdk.management; // How much memory there is, and how the collector rounds large arrays.
}
