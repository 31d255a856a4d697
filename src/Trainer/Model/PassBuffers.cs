using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

/// <summary>
/// Buffers of the passes over paged sequences, reused by every layer. Legend: P rows of a prompt pass, S sequences, R the larger of both, D hidden,
/// F intermediate, V vocabulary.
/// </summary>
/// <typeparam name="T">storage, that of the model</typeparam>
public sealed class PassBuffers<T> : IDisposable
    where T : unmanaged
{
    /// <summary>Declares and allocates buffers.</summary>
    /// <param name="config">the model</param>
    /// <param name="promptRows">P: a prompt pass always has this many rows</param>
    /// <param name="sequences">S: rows of a decode pass at most</param>
    /// <param name="capacity">longest sequence, tokens</param>
    /// <param name="pagesPerSequence">pages of the longest sequence</param>
    /// <param name="stream">where it runs and whose memory it is</param>
    public PassBuffers(Qwen2Config config, int promptRows, int sequences, int capacity, int pagesPerSequence, ComputeStream stream)
    {
        var rows = Math.Max(promptRows, sequences);
        (PromptRows, Sequences) = (promptRows, sequences);
        Arena = stream.CreateArena("decode passes");
        var attention = config.NumAttentionHeads * config.HeadDim;
        var qkv = attention + (2 * config.NumKeyValueHeads * config.HeadDim);
        TokenIds = Arena.Declare<int>(rows);
        Positions = Arena.Declare<int>(rows);
        Pages = Arena.Declare<int>(rows);
        Offsets = Arena.Declare<int>(rows);
        PageTable = Arena.Declare<int>(sequences, pagesPerSequence);
        LastRows = Arena.Declare<int>(sequences);
        Input = Arena.Declare<T>(rows, config.HiddenSize);
        Norm = Arena.Declare<T>(rows, config.HiddenSize);
        Rstd = Arena.Declare<float>(rows);
        Qkv = Arena.Declare<T>(rows, qkv);
        Attention = Arena.Declare<T>(rows, attention);
        Branch = Arena.Declare<T>(rows, config.HiddenSize);
        GateUp = Arena.Declare<T>(rows, 2 * config.IntermediateSize);
        Act = Arena.Declare<T>(rows, config.IntermediateSize);
        Last = Arena.Declare<T>(sequences, config.HiddenSize);
        Logits = Arena.Declare<T>(sequences, config.VocabSize);
        Next = Arena.Declare<int>(sequences);
        Rope = new RopeTable(Arena, capacity, config.HeadDim, config.RopeTheta);
        Workspace = new AttentionWorkspace(
            Arena, (stream as CpuStream)?.Workers ?? 1, 0, config.NumAttentionHeads, config.NumKeyValueHeads, config.HeadDim, backward: false,
            pagedRows: rows, pagedSequences: sequences);
        Arena.Allocate();
        Rope.Fill();
        Zero.Fill(stream, Attention);      // rows that only pad a pass are multiplied too
        Zero.Fill(stream, Last);
        Indices = new int[rows];
    }

    /// <summary>P</summary>
    public int PromptRows { get; }

    /// <summary>S</summary>
    public int Sequences { get; }

    /// <summary>The memory.</summary>
    public Arena Arena { get; }

    /// <summary>[S, V] logits of the wanted rows of the latest pass.</summary>
    public Tensor<T> Logits { get; }

    /// <summary>[S] the largest logit's token of each wanted row of the latest pass.</summary>
    public Tensor<int> Next { get; }

    internal Tensor<int> TokenIds { get; }

    internal Tensor<int> Positions { get; }

    internal Tensor<int> Pages { get; }

    internal Tensor<int> Offsets { get; }

    internal Tensor<int> PageTable { get; }

    internal Tensor<int> LastRows { get; }

    internal Tensor<T> Input { get; }

    internal Tensor<T> Norm { get; }

    internal Tensor<float> Rstd { get; }

    internal Tensor<T> Qkv { get; }

    internal Tensor<T> Attention { get; }

    internal Tensor<T> Branch { get; }

    internal Tensor<T> GateUp { get; }

    internal Tensor<T> Act { get; }

    internal Tensor<T> Last { get; }

    internal RopeTable Rope { get; }

    internal AttentionWorkspace Workspace { get; }

    private int[] Indices { get; }

    /// <inheritdoc/>
    public void Dispose() => Arena.Dispose();

    /// <summary>Uploads what a pass needs; rows from the pass's own up to <paramref name="padded"/> hold token 0 at position 0.</summary>
    internal void Load(ComputeStream stream, PassRows pass, int padded, bool prompt)
    {
        Upload(stream, pass.Tokens, TokenIds, padded);
        Upload(stream, pass.Positions, Positions, padded);
        Upload(stream, pass.Pages, Pages, pass.Count);
        Upload(stream, pass.Offsets, Offsets, pass.Count);
        Upload(stream, pass.LastRows, LastRows, stream is CpuStream ? pass.Wanted : Sequences);
        TensorCopy.Upload(stream, pass.Table, PageTable.Rows(0, pass.Sequences));
        Workspace.LoadPaged(stream, pass.Starts, pass.Contexts, decode: !prompt);
    }

    private void Upload(ComputeStream stream, ReadOnlySpan<int> values, Tensor<int> to, int padded)
    {
        values.CopyTo(Indices);
        Indices.AsSpan(values.Length, padded - values.Length).Clear();
        TensorCopy.Upload<int>(stream, Indices.AsSpan(0, padded), to.Prefix(padded));
    }
}
