using System.Buffers.Binary;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>Frames on a socket.</summary>
internal static class RendezvousWire
{
    /// <summary>The variable with the word that the ranks of a job share: who has another is not of this job, and is not answered.</summary>
    public const string JobToken = "Z1_JOB_TOKEN";

    public const int MostBytes = 16 << 20, MostHelloBytes = 64 << 10;

    /// <summary>What a rank says first: of this protocol and, where there is a token, of this job.</summary>
    public static Int128 Mark { get; } = MarkOf(Environment.GetEnvironmentVariable(JobToken));

    public static Int128 MarkOf(string? token) =>
        BinaryPrimitives.ReadInt128LittleEndian(SHA256.HashData(Encoding.UTF8.GetBytes($"z1 rendezvous 2 {token}")));

    public static void WriteMark(this BinaryWriter writer, Int128 mark)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteInt128LittleEndian(bytes, mark);
        writer.Write(bytes);
    }

    public static Int128 ReadMark(this BinaryReader reader)
    {
        Span<byte> bytes = stackalloc byte[16];
        reader.BaseStream.ReadExactly(bytes);
        return BinaryPrimitives.ReadInt128LittleEndian(bytes);
    }

    public static byte[] Frame(RendezvousMessage kind, Action<BinaryWriter>? body = null)
    {
        using var memory = new MemoryStream();
        using var writer = new BinaryWriter(memory);
        writer.Write(0);
        writer.Write((byte)kind);
        body?.Invoke(writer);
        writer.Flush();
        var frame = memory.ToArray();
        BinaryPrimitives.WriteInt32LittleEndian(frame, frame.Length - 4);
        return frame;
    }

    public static void WriteBytes(this BinaryWriter writer, ReadOnlySpan<byte> bytes)
    {
        writer.Write(bytes.Length);
        writer.Write(bytes);
    }

    public static byte[] ReadBytes(this BinaryReader reader)
    {
        var length = reader.ReadInt32();
        return length >= 0 && length <= reader.BaseStream.Length - reader.BaseStream.Position
            ? reader.ReadBytes(length)
            : throw new InvalidDataException($"a value of {length} bytes");
    }

    /// <summary>The next frame without its length; null when the connection has ended.</summary>
    public static byte[]? Read(NetworkStream stream)
    {
        try
        {
            Span<byte> length = stackalloc byte[4];
            stream.ReadExactly(length);
            var frame = new byte[Checked(BinaryPrimitives.ReadInt32LittleEndian(length), MostBytes)];
            stream.ReadExactly(frame);
            return frame;
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or SocketException)
        {
            return null;
        }
    }

    /// <summary>As <see cref="Read"/>.</summary>
    public static async Task<byte[]?> ReadAsync(NetworkStream stream, int mostBytes, CancellationToken stop)
    {
        try
        {
            var length = new byte[4];
            await stream.ReadExactlyAsync(length, stop);
            var frame = new byte[Checked(BinaryPrimitives.ReadInt32LittleEndian(length), mostBytes)];
            await stream.ReadExactlyAsync(frame, stop);
            return frame;
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or SocketException or OperationCanceledException)
        {
            return null;
        }
    }

    public static (RendezvousMessage Kind, BinaryReader Body) Open(byte[] frame) =>
        ((RendezvousMessage)frame[0], new BinaryReader(new MemoryStream(frame, 1, frame.Length - 1)));

    /// <summary>A dead machine answers no probe: its connection breaks within some ten seconds.</summary>
    public static void Prepare(Socket socket)
    {
        socket.NoDelay = true;
        socket.SendTimeout = 5000;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 4);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 2);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);
    }

    private static int Checked(int length, int most) =>
        length >= 1 && length <= most ? length : throw new IOException($"a frame of {length} bytes");
}
