package homekv.rpc;

import java.net.InetAddress;
import java.net.InetSocketAddress;

/** How addresses are written. */
public final class Addresses {
    private Addresses() {}

    /** {@code host:port}, with an IPv6 address in brackets. */
    public static String hostAndPort(String host, int port) {
        return (host.indexOf(':') >= 0 && !host.startsWith("[") ? "[" + host + "]" : host) + ":" + port;
    }

    /** The numeric form of an address, with its port. */
    public static String hostAndPort(InetSocketAddress address) {
        InetAddress host = address.getAddress();
        return hostAndPort(host.getHostAddress(), address.getPort());
    }
}
