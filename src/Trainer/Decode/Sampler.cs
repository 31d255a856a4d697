using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Decode;

/// <summary>Draws the next token of several sequences by their rules with <see cref="Sample"/>, on the stream that holds the logits.</summary>
/// <typeparam name="T">storage of the logits</typeparam>
internal sealed class Sampler<T> : IDisposable
    where T : unmanaged
{
    private readonly Arena _arena;
    private readonly float[] _temperatures, _topPs;
    private readonly int[] _topKs, _counters;
    private readonly ulong[] _seeds;
    private readonly Tensor<float> _temperature, _topP;
    private readonly Tensor<int> _topK, _counter, _token;
    private readonly Tensor<ulong> _seed;

    /// <summary>Room for <paramref name="rows"/> sequences.</summary>
    public Sampler(ComputeStream stream, int rows)
    {
        _arena = stream.CreateArena("sampling");
        (_temperature, _topP, _topK) = (_arena.Declare<float>(rows), _arena.Declare<float>(rows), _arena.Declare<int>(rows));
        (_seed, _counter, _token) = (_arena.Declare<ulong>(rows), _arena.Declare<int>(rows), _arena.Declare<int>(rows));
        _arena.Allocate();
        (_temperatures, _topPs, _topKs, _seeds, _counters) = (new float[rows], new float[rows], new int[rows], new ulong[rows], new int[rows]);
    }

    /// <summary>Draws one token per row.</summary>
    /// <param name="stream">where the logits are</param>
    /// <param name="logits">[R, V], R at most the rows there is room for</param>
    /// <param name="rules">[R] the rule of a row and the number of tokens that its sequence has written</param>
    /// <param name="tokens">[R] written</param>
    public void Draw(ComputeStream stream, Tensor<T> logits, ReadOnlySpan<(Sampling Sampling, int Counter)> rules, Span<int> tokens)
    {
        var rows = rules.Length;
        for (var r = 0; r < rows; r++)
        {
            ((_temperatures[r], _topPs[r], _topKs[r], _seeds[r]), _counters[r]) = rules[r];
        }

        Sample.CheckRules(_temperatures.AsSpan(0, rows), _topPs.AsSpan(0, rows), _topKs.AsSpan(0, rows));
        Upload(stream, _temperatures, _temperature, rows);
        Upload(stream, _topPs, _topP, rows);
        Upload(stream, _topKs, _topK, rows);
        Upload(stream, _seeds, _seed, rows);
        Upload(stream, _counters, _counter, rows);
        var token = _token.Prefix(rows);
        Sample.Forward(
            stream, logits, _temperature.Prefix(rows), _topP.Prefix(rows), _topK.Prefix(rows), _seed.Prefix(rows), _counter.Prefix(rows), token);
        TensorCopy.Download(stream, token, tokens);
    }

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();

    private static void Upload<V>(ComputeStream stream, V[] values, Tensor<V> to, int rows)
        where V : unmanaged => TensorCopy.Upload<V>(stream, values.AsSpan(0, rows), to.Prefix(rows));
}
