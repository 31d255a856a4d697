using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Z1Coder.Perf;

/// <summary>
/// An OpenAI-shaped server on a free port of this machine that answers what a script says: for measuring how fast curation is when the
/// teacher is not what it waits for, and for tests that need a bad teacher. HTTP/1.1 with kept connections, bodies with a Content-Length
/// only.
/// </summary>
public sealed class LoopbackTeacher : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _end = new();
    private readonly Func<LoopbackRequest, LoopbackReply> _script;
    private readonly Task _accepting;
    private long _requests;
    private int _open, _mostOpen;

    /// <summary>Listens at once; <paramref name="script"/> is called from many threads.</summary>
    public LoopbackTeacher(Func<LoopbackRequest, LoopbackReply> script)
    {
        _script = script;
        _listener.Start(512);
        _accepting = Task.Run(AcceptAsync);
    }

    /// <summary>What a client calls the server.</summary>
    public string BaseUrl => $"http://{IPAddress.Loopback}:{((IPEndPoint)_listener.LocalEndpoint).Port}/v1";

    /// <summary>Requests received whole.</summary>
    public long Requests => Interlocked.Read(ref _requests);

    /// <summary>The most requests that were being answered at once.</summary>
    public int MostAtOnce => Volatile.Read(ref _mostOpen);

    /// <inheritdoc/>
    public void Dispose()
    {
        _end.Cancel();
        _listener.Dispose();
        _accepting.GetAwaiter().GetResult();
        _end.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var client = await _listener.AcceptTcpClientAsync(_end.Token).ConfigureAwait(false);
                client.NoDelay = true;
                _ = Task.Run(() => ServeAsync(client));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or InvalidOperationException)
        {
            // the server has ended
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                var stream = client.GetStream();
                var buffer = new byte[16 << 10];
                var (start, end) = (0, 0);
                while (true)
                {
                    int head;
                    while ((head = buffer.AsSpan(start, end - start).IndexOf("\r\n\r\n"u8)) < 0)
                    {
                        if (await FillAsync().ConfigureAwait(false) == 0)
                        {
                            return;
                        }
                    }

                    var text = Encoding.ASCII.GetString(buffer, start, head);
                    var length = Length(text);
                    while (end - start < head + 4 + length)
                    {
                        if (await FillAsync().ConfigureAwait(false) == 0)
                        {
                            return;
                        }
                    }

                    var request = new LoopbackRequest(text.Split(' ', 3)[1], text, buffer.AsSpan(start + head + 4, length).ToArray());
                    start += head + 4 + length;
                    if (!await AnswerAsync(stream, request).ConfigureAwait(false))
                    {
                        client.Client.LingerState = new LingerOption(true, 0);          // a reset, not a polite end
                        return;
                    }
                }

                async ValueTask<int> FillAsync()
                {
                    if (end == buffer.Length)
                    {
                        buffer.AsSpan(start, end - start).CopyTo(buffer);
                        (start, end) = (0, end - start);
                        if (end == buffer.Length)
                        {
                            Array.Resize(ref buffer, 2 * buffer.Length);
                        }
                    }

                    var read = await stream.ReadAsync(buffer.AsMemory(end), _end.Token).ConfigureAwait(false);
                    end += read;
                    return read;
                }
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException)
            {
                // the client has gone, perhaps killed: that is part of the test
            }
        }
    }

    /// <summary>False when the reply was cut and the connection must be.</summary>
    private async Task<bool> AnswerAsync(NetworkStream stream, LoopbackRequest request)
    {
        Interlocked.Increment(ref _requests);
        var open = Interlocked.Increment(ref _open);
        for (var most = _mostOpen; open > most && Interlocked.CompareExchange(ref _mostOpen, open, most) != most; most = _mostOpen)
        {
        }

        LoopbackReply reply;
        try
        {
            reply = _script(request);
            if (reply.DelayMilliseconds > 0)
            {
                await Task.Delay(reply.DelayMilliseconds, _end.Token).ConfigureAwait(false);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _open);
        }

        var head = Encoding.ASCII.GetBytes(
            $"HTTP/1.1 {reply.Status} X\r\nContent-Type: {reply.ContentType}\r\nContent-Length: {reply.Body.Length}\r\n{reply.Headers}\r\n");
        byte[] whole = [.. head, .. reply.Body];
        await stream.WriteAsync(whole.AsMemory(0, reply.KeptBytes is { } kept ? Math.Min(kept, whole.Length) : whole.Length), _end.Token)
            .ConfigureAwait(false);
        return reply.KeptBytes is null;
    }

    private static int Length(string head)
    {
        const string Key = "content-length:";
        var at = head.IndexOf(Key, StringComparison.OrdinalIgnoreCase);
        if (at < 0)
        {
            return 0;
        }

        var end = head.IndexOf('\r', at);
        return int.Parse(head.AsSpan(at + Key.Length, (end < 0 ? head.Length : end) - at - Key.Length).Trim());
    }
}
