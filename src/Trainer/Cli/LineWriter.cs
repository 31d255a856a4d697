using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Cli;

/// <summary>Writes to a file or pipe on a thread of its own, in order: a reader that hangs keeps nobody waiting but that thread.</summary>
internal sealed class LineWriter
{
    private const int MostBytes = 1 << 20;

    private readonly int _to;
    private readonly Queue<byte[]> _lines = [];
    private readonly object _gate = new();
    private long _waiting;
    private IOException? _failure;

    /// <param name="descriptor">of this process: 1 is standard output, 2 standard error</param>
    public LineWriter(int descriptor)
    {
        _to = descriptor;
        new Thread(WriteAll) { IsBackground = true, Name = "lines" }.Start();
    }

    /// <summary>Whether less than 1 MiB waits to be read. Who goes on without room is not refused.</summary>
    public bool HasRoom => Waiting < MostBytes;

    /// <summary>Bytes that nobody has read.</summary>
    public long Waiting => Interlocked.Read(ref _waiting);

    /// <summary>Why a line could not be written: the reader has gone. Null while it is there.</summary>
    public IOException? Failure => Volatile.Read(ref _failure);

    /// <summary>Takes a line, at once.</summary>
    /// <returns>false after a <see cref="Failure"/></returns>
    public bool TryWrite(byte[] line)
    {
        lock (_gate)
        {
            if (_failure is not null)
            {
                return false;
            }

            _lines.Enqueue(line);
            _waiting += line.Length;
            Monitor.PulseAll(_gate);
            return true;
        }
    }

    /// <summary>Waits until all is written, as long as a line is taken now and then.</summary>
    /// <param name="patience">without a line taken</param>
    /// <returns>false when something was not written</returns>
    public bool Drain(TimeSpan patience)
    {
        lock (_gate)
        {
            while (_waiting > 0 && _failure is null)
            {
                if (!Monitor.Wait(_gate, patience))
                {
                    return false;
                }
            }

            return _waiting == 0;
        }
    }

    private void WriteAll()
    {
        while (true)
        {
            byte[] line;
            lock (_gate)
            {
                while (!_lines.TryDequeue(out line!))
                {
                    Monitor.Wait(_gate);
                }
            }

            IOException? failure = null;
            try
            {
                ChildProcess.Write(_to, line);
            }
            catch (IOException e)
            {
                failure = e;
            }

            lock (_gate)
            {
                _failure = failure;
                _waiting -= failure is null ? line.Length : 0;
                Monitor.PulseAll(_gate);
            }

            if (failure is not null)
            {
                return;
            }
        }
    }
}
