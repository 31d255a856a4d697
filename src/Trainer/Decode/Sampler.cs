using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Decode;

/// <summary>Draws the next token of several sequences by their rules with <see cref="Sample"/>, on the stream that holds the logits.</summary>
/// <typeparam name="T">storage of the logits</typeparam>
internal sealed class Sampler<T> : IDisposable
    where T : unmanaged
{
    private readonly Arena _arena;
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
    }

    /// <summary>Draws one token per row.</summary>
    /// <param name="stream">where the logits are</param>
    /// <param name="logits">[R, V], R at most the rows there is room for</param>
    /// <param name="rules">[R] the rule of a row and the number of tokens that its sequence has written</param>
    /// <param name="tokens">[R] written</param>
    public void Draw(ComputeStream stream, Tensor<T> logits, ReadOnlySpan<(Sampling Sampling, int Counter)> rules, Span<int> tokens)
    {
        var rows = rules.Length;
        var (temperature, topP, topK, seed, counter) = (new float[rows], new float[rows], new int[rows], new ulong[rows], new int[rows]);
        for (var r = 0; r < rows; r++)
        {
            ((temperature[r], topP[r], topK[r], seed[r]), counter[r]) = rules[r];
        }

        Sample.CheckRules(temperature, topP, topK);
        TensorCopy.Upload<float>(stream, temperature, _temperature.Prefix(rows));
        TensorCopy.Upload<float>(stream, topP, _topP.Prefix(rows));
        TensorCopy.Upload<int>(stream, topK, _topK.Prefix(rows));
        TensorCopy.Upload<ulong>(stream, seed, _seed.Prefix(rows));
        TensorCopy.Upload<int>(stream, counter, _counter.Prefix(rows));
        var token = _token.Prefix(rows);
        Sample.Forward(
            stream, logits, _temperature.Prefix(rows), _topP.Prefix(rows), _topK.Prefix(rows), _seed.Prefix(rows), _counter.Prefix(rows), token);
        TensorCopy.Download(stream, token, tokens);
    }

    /// <inheritdoc/>
    public void Dispose() => _arena.Dispose();
}
