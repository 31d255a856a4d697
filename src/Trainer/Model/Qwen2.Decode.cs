using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

public sealed partial class Qwen2<T>
{
    /// <summary>
    /// Reads whole prompts, packed, into their cache slots and gives the logits after the last token of each.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="a">receives logits [S, V] and their argmax [S]</param>
    /// <param name="cache">slots to fill</param>
    /// <param name="tokens">[R] all prompts one after another</param>
    /// <param name="lengths">[S] tokens of each prompt, at least 1</param>
    /// <param name="slots">[S] the slot of each</param>
    public void Prefill(
        ComputeStream stream, DecodeActivations<T> a, KvCache<T> cache, ReadOnlySpan<int> tokens, ReadOnlySpan<int> lengths, ReadOnlySpan<int> slots)
    {
        var (row, host) = (0, a.Host);
        host.CuSeqlens[0] = 0;
        for (var s = 0; s < lengths.Length; s++)
        {
            for (var position = 0; position < lengths[s]; position++, row++)
            {
                host.Positions[row] = position;
                host.Slots[row] = slots[s];
            }

            host.CuSeqlens[s + 1] = row;
            host.LastRows[s] = row - 1;
        }

        a.Load(stream, tokens, host.Positions.AsSpan(0, row), host.Slots.AsSpan(0, row), cache);
        a.Workspace.Load(stream, host.CuSeqlens.AsSpan(0, lengths.Length + 1));
        TensorCopy.Upload<int>(stream, host.LastRows.AsSpan(0, lengths.Length), a.LastRows.Prefix(lengths.Length));
        Decoder(stream, a, cache, row, prompt: true);
        Embedding.Forward(stream, a.LastRows.Prefix(lengths.Length), a.Norm.Rows(0, row), a.Last.Rows(0, lengths.Length));   // a gather of rows
        Head(stream, a, a.Last.Rows(0, lengths.Length));
    }

    /// <summary>One more token for each of S sequences.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="a">receives logits [S, V] and their argmax [S]</param>
    /// <param name="cache">read and appended to</param>
    /// <param name="tokens">[S] the newest token of each</param>
    /// <param name="positions">[S] its position: tokens already in the slot</param>
    /// <param name="slots">[S] the slot of each</param>
    public void Decode(
        ComputeStream stream, DecodeActivations<T> a, KvCache<T> cache, ReadOnlySpan<int> tokens, ReadOnlySpan<int> positions, ReadOnlySpan<int> slots)
    {
        for (var s = 0; s < tokens.Length; s++)
        {
            a.Host.Lengths[s] = positions[s] + 1;
        }

        a.Load(stream, tokens, positions, slots, cache);
        TensorCopy.Upload<int>(stream, a.Host.Lengths.AsSpan(0, tokens.Length), a.Lengths.Prefix(tokens.Length));
        Decoder(stream, a, cache, tokens.Length, prompt: false);
        Head(stream, a, a.Norm.Rows(0, tokens.Length));
    }

    /// <summary>All layers over R rows; a.Norm holds the normalised last hidden states afterwards.</summary>
    private void Decoder(ComputeStream stream, DecodeActivations<T> a, KvCache<T> cache, int rows, bool prompt)
    {
        var (heads, kvHeads, headDim, eps) = (Config.NumAttentionHeads, Config.NumKeyValueHeads, Config.HeadDim, (float)Config.RmsNormEps);
        var (input, norm, rstd) = (a.Input.Rows(0, rows), a.Norm.Rows(0, rows), a.Rstd.Prefix(rows));
        var (qkv, attention, branch) = (a.Qkv.Rows(0, rows), a.Attention.Rows(0, rows), a.Branch.Rows(0, rows));
        var (gateUp, act) = (a.GateUp.Rows(0, rows), a.Act.Rows(0, rows));
        var (positions, slots) = (a.Positions.Prefix(rows), a.Slots.Prefix(rows));

        Embedding.Forward(stream, a.TokenIds.Prefix(rows), Weights[_p.Embedding], input);
        RmsNorm.Forward(stream, input, Weights[_p.Layers[0].InputNorm], norm, rstd, eps);
        for (var l = 0; l < _p.Layers.Length; l++)
        {
            var w = _p.Layers[l];
            Matmul.Forward(stream, norm, Weights[w.Qkv], Weights[w.QkvBias], qkv);
            Rope.Forward(stream, qkv, positions, a.Rope, heads + kvHeads, headDim);
            Attention.AppendToCache(stream, qkv, slots, positions, cache.Keys(l), cache.Values(l), heads, kvHeads, headDim);
            if (prompt)
            {
                Attention.Forward(stream, qkv, attention, a.Lse.Rows(0, rows), heads, kvHeads, headDim, a.Workspace);
            }
            else
            {
                Attention.Decode(stream, qkv, cache.Keys(l), cache.Values(l), slots, a.Lengths.Prefix(rows), attention, heads, kvHeads, headDim, a.Workspace);
            }

            Matmul.Forward(stream, attention, Weights[w.Output], default, branch);
            RmsNorm.ForwardResidual(stream, branch, input, Weights[w.PostAttentionNorm], input, norm, rstd, eps);
            Matmul.Forward(stream, norm, Weights[w.GateUp], default, gateUp);
            SwiGlu.Forward(stream, gateUp, act);
            Matmul.Forward(stream, act, Weights[w.Down], default, branch);
            var next = l + 1 < _p.Layers.Length ? _p.Layers[l + 1].InputNorm : _p.FinalNorm;
            RmsNorm.ForwardResidual(stream, branch, input, Weights[next], input, norm, rstd, eps);
        }
    }

    private void Head(ComputeStream stream, DecodeActivations<T> a, Tensor<T> hidden)
    {
        var rows = hidden.Shape[0];
        Matmul.Forward(stream, hidden, Weights[_p.Head], default, a.Logits.Rows(0, rows));
        Argmax.Forward(stream, a.Logits.Rows(0, rows), a.Next.Prefix(rows));
    }
}
