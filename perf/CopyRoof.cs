using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>
/// The bandwidth roof: a copy that moves as many bytes as the kernel (half read, half written), with the same threads. Two ways are
/// timed, the library's memory move and a loop of vector loads and stores; the faster one is the roof.
/// </summary>
public sealed class CopyRoof : IDisposable
{
    private const int Chunk = 1 << 16;                  // floats per item: 256 KiB

    private readonly CpuStream _host = new(1);
    private readonly PerfInputs _inputs;
    private readonly Tensor<float> _from, _to;
    private long _next;

    /// <summary>Room for copies of up to <paramref name="maxBytes"/> bytes moved; smaller ones walk through it, so that caches stay cold.</summary>
    public CopyRoof(long maxBytes)
    {
        _inputs = new PerfInputs(_host);
        var floats = (int)Math.Min(Math.Max(maxBytes, 256L << 20) / 8, 1 << 28);
        (_from, _to) = (_inputs.Random<float>(floats), _inputs.Random<float>(floats));
    }

    /// <summary>Moves about <paramref name="bytes"/> bytes in all.</summary>
    public void Copy(CpuStream stream, long bytes, bool byVectors)
    {
        var count = (int)Math.Min(Math.Max(bytes / 8, 1), _from.Count);
        if (_next + count > _from.Count)
        {
            _next = 0;
        }

        var (from, to) = (_from.Rows((int)_next, count), _to.Rows((int)_next, count));
        _next += count;
        var grain = Math.Min(Chunk, Math.Max(1024, count / (stream.Workers * 2)));
        stream.For((count + grain - 1) / grain, 1, new Job(from, to, grain, byVectors));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _inputs.Dispose();
        _host.Dispose();
    }

    private readonly struct Job(Tensor<float> from, Tensor<float> to, int chunk, bool byVectors) : ICpuJob
    {
        public void Run(int begin, int end, int worker)
        {
            var first = begin * chunk;
            var count = (int)Math.Min((long)end * chunk, from.Count) - first;
            if (!byVectors)
            {
                from.Span.Slice(first, count).CopyTo(to.Span[first..]);
                return;
            }

            for (var i = first; i + Lanes.Count <= first + count; i += Lanes.Count)
            {
                Lanes.Store(ref to.Origin, (nuint)i, Lanes.Load(ref from.Origin, (nuint)i));
            }
        }
    }
}
