// A binary16 multiplier, combinational: round to nearest even, subnormals, tininess after rounding, canonical NaN.
// Flags: {invalid, divide by zero, overflow, underflow, inexact}. With `TIES_UP defined, ties go the wrong way.

`timescale 1ns / 1ps

module fp16_mul (
    input  wire [15:0] a,
    input  wire [15:0] b,
    output reg  [15:0] result,
    output reg  [4:0]  flags
);
    function [3:0] leading_zeros(input [9:0] trailing);  // of a subnormal's 10 bits
        integer i;
        begin
            leading_zeros = 10;
            for (i = 0; i < 10; i = i + 1)
                if (trailing[i]) leading_zeros = 9 - i;
        end
    endfunction

    wire sign = a[15] ^ b[15];
    wire a_nan = a[14:0] > 15'h7C00, b_nan = b[14:0] > 15'h7C00;
    wire a_inf = a[14:0] == 15'h7C00, b_inf = b[14:0] == 15'h7C00;
    wire a_zero = a[14:0] == 0, b_zero = b[14:0] == 0;
    wire signaling = (a_nan & ~a[9]) | (b_nan & ~b[9]);

    // significands with their leading bit at bit 10, and the exponent fields that go with them
    wire [3:0] a_shift = a[14:10] == 0 ? leading_zeros(a[9:0]) + 1 : 0;
    wire [3:0] b_shift = b[14:10] == 0 ? leading_zeros(b[9:0]) + 1 : 0;
    wire [10:0] a_significand = {a[14:10] != 0, a[9:0]} << a_shift;
    wire [10:0] b_significand = {b[14:10] != 0, b[9:0]} << b_shift;
    wire signed [7:0] a_exponent = (a[14:10] == 0 ? 8'sd1 : $signed({3'b0, a[14:10]})) - $signed({4'b0, a_shift});
    wire signed [7:0] b_exponent = (b[14:10] == 0 ? 8'sd1 : $signed({3'b0, b[14:10]})) - $signed({4'b0, b_shift});

    // the product with its leading bit at bit 21; exponent is the result's field if that is at least 1
    wire [21:0] raw = a_significand * b_significand;
    wire [21:0] product = raw[21] ? raw : raw << 1;
    wire signed [7:0] exponent = a_exponent + b_exponent - 8'sd15 + (raw[21] ? 8'sd1 : 8'sd0);

    // below the normal numbers the product moves right; what falls out is kept as one sticky bit
    wire [7:0] below = exponent >= 1 ? 8'd0 : 8'd1 - exponent;
    wire [7:0] shift = below > 24 ? 8'd24 : below;
    wire [45:0] moved = {product, 24'b0} >> shift;
    wire [10:0] kept = moved[45:35];
    wire guard = moved[34], sticky = |moved[33:0];
`ifdef TIES_UP
    wire up = guard;
`else
    wire up = guard & (sticky | kept[0]);
`endif

    // the hidden bit of kept adds one to the exponent field, and so does a carry
    wire [7:0] field = exponent >= 1 ? exponent - 8'd1 : 8'd0;
    wire [18:0] magnitude = ({11'b0, field} << 10) + kept + up;
    wire inexact = guard | sticky;
    wire carries = &product[21:11] & product[10];  // to the smallest normal number, had it all 11 bits
    wire tiny = exponent < 0 | (exponent == 0 & ~carries);

    always @* begin
        flags = 0;
        if (a_nan | b_nan | (a_inf & b_zero) | (a_zero & b_inf)) begin
            result = 16'h7E00;
            flags[4] = signaling | ~(a_nan | b_nan);
        end else if (a_inf | b_inf) result = {sign, 15'h7C00};
        else if (a_zero | b_zero) result = {sign, 15'h0};
        else if (magnitude >= 19'h7C00) begin
            result = {sign, 15'h7C00};
            flags = 5'b00101;
        end else begin
            result = {sign, magnitude[14:0]};
            flags = {3'b0, tiny & inexact, inexact};
        end
    end
endmodule
